#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "train/drafter_export.h"
#include "train/drafter_import.h"

namespace ultraspeed::train {
namespace {

constexpr size_t kPassesAhead = 3;  // read while one is computed: a GPU takes them that fast

double root_mean_square(const torch::Tensor& tensor) {
  return std::sqrt(tensor.square().mean().item<double>());
}

std::string shares(const Acceptance& acceptance) {
  std::string text;
  for (size_t i = 0; i < acceptance.accepted_places.size(); ++i) {
    text += fmt::format(" {:.2f}", acceptance.share(i));
  }
  return text;
}

void add_sums(const LossOutput& output, LossOutput* sums) {
  sums->weighted_sum += output.weighted_sum;
  sums->divisor += output.divisor;
}

// Rows 1, 2, ... of each block, which draft.
torch::Tensor drafting_rows(const torch::Tensor& hidden) {
  return hidden.narrow(1, 1, hidden.size(1) - 1);
}

}  // namespace

// --- Opening ---

Result<std::unique_ptr<Trainer>> Trainer::open(const TrainerOptions& options, Log log) {
  std::unique_ptr<Trainer> trainer(new Trainer(options, std::move(log)));
  US_TRY(guarded([&] { return trainer->load(); }));
  return trainer;
}

Status Trainer::load() {
  US_ASSIGN(folder_, FeatureFolder::open(options_.features));
  options_.features_sum = folder_->checksum();
  if (!options_.eval_features.empty()) {
    US_ASSIGN(eval_folder_, FeatureFolder::open(options_.eval_features));
  }
  if (!options_.taps.empty()) {
    US_TRY(folder_->select_taps(options_.taps));
    if (eval_folder_) US_TRY(eval_folder_->select_taps(options_.taps));
  }
  US_ASSIGN(const FrozenTables tables, FrozenTables::read(options_.tables));
  US_TRY(check_inputs(tables));
  US_TRY(make_net(tables));
  log_(fmt::format("{} texts, {} tokens; a drafter of {:.2f} MB", folder_->num_sequences(),
                   folder_->num_tokens(),
                   static_cast<double>(exported_bytes(*net_, options_.format)) * 1e-6));
  US_TRY(check_destinations(options_));
  return run_.resume(options_, describe_run(options_), optimizers_.get(), log_);
}

// What the files say must be of one target, and what they say is the drafter's too.
Status Trainer::check_inputs(const FrozenTables& tables) const {
  const FeatureShape& shape = folder_->shape();
  if (eval_folder_ && eval_folder_->shape() != shape) {
    return make_error(ErrorCode::kInvalidData, "{}: of another target, vocabulary or taps than {}",
                      options_.eval_features, options_.features);
  }
  if (tables.hidden_size != shape.hidden_size || tables.vocab_size != shape.vocab_size ||
      tables.model != shape.model) {
    return make_error(ErrorCode::kInvalidData,
                      "{}: tables {} x {} of '{}', but {} has features of {} x {} of '{}'",
                      options_.tables, tables.vocab_size, tables.hidden_size, tables.model,
                      options_.features, shape.vocab_size, shape.hidden_size, shape.model);
  }
  const auto is_zero = [](float number) { return number == 0; };
  if (std::all_of(tables.embedding.begin(), tables.embedding.end(), is_zero) ||
      std::all_of(tables.head.begin(), tables.head.end(), is_zero)) {
    return make_error(ErrorCode::kInvalidData, "{}: a table of zeros", options_.tables);
  }
  if (options_.drafter.mask_token_id >= shape.vocab_size) {
    return make_error(ErrorCode::kInvalidArgument, "mask token {} of {}",
                      options_.drafter.mask_token_id, shape.vocab_size);
  }
  if (options_.num_steps == 0 || options_.sequences_per_pass == 0 ||
      options_.passes_per_step == 0 || options_.blocks_per_sequence == 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} steps of {} passes of {} texts of {} blocks; expected at least 1 each",
                      options_.num_steps, options_.passes_per_step, options_.sequences_per_pass,
                      options_.blocks_per_sequence);
  }
  return check_trainable(options_.drafter);
}

Status Trainer::make_net(const FrozenTables& tables) {
  const FeatureShape& shape = folder_->shape();
  model::DrafterConfig& config = options_.drafter;
  config.hidden_size = shape.hidden_size;
  config.vocab_size = shape.vocab_size;
  config.num_target_layers = shape.num_target_layers;
  config.target_layer_ids = shape.target_layer_ids;
  config.has_mask_embedding = true;
  NetOptions options;
  options.compute = options_.compute;
  options.device = options_.device;
  net_ = std::make_unique<DrafterNet>(config, options, options_.seed);
  const std::vector<int64_t> sizes = {shape.vocab_size, shape.hidden_size};
  embedding_ = torch::tensor(tables.embedding).view(sizes).to(options_.device);
  head_ = torch::tensor(tables.head).view(sizes).to(options_.device, options_.compute);
  // A row as large as the table's, of no token.
  torch::manual_seed(options_.seed);
  const torch::Tensor noise = torch::randn({sizes[1]}).to(options_.device);
  net_->set("mask_embedding", noise * embedding_.square().mean().sqrt());
  if (config.selector.rank != 0) begin_selector();
  if (!options_.warm_start.empty()) {
    US_ASSIGN(options_.warm_start_sum, import_drafter(options_.warm_start, net_.get()));
  }
  make_optimizers();
  order_.emplace(options_.seed, folder_->num_sequences());
  return {};
}

// The tables' numbers are small: what multiplies them is large by as much. A successor's product
// with Q is a logit's size already where Q's rows are of length 1 / sqrt(hidden_size).
void Trainer::begin_selector() {
  selector_ = selector_of(*net_, embedding_, head_);
  for (Parameter& p : net_->parameters()) {
    if (p.name == "selector.predecessor_proj.weight") p.unit = 1 / root_mean_square(embedding_);
    if (p.name == "selector.successor_proj.weight") {
      const double row_length = std::sqrt(static_cast<double>(options_.drafter.hidden_size));
      p.unit = 1 / (row_length * root_mean_square(head_.to(torch::kFloat32)));
    }
    if (p.unit != 1) net_->set(p.name, p.value * p.unit);
  }
}

void Trainer::make_optimizers() {
  std::vector<Parameter> parameters = net_->parameters();
  for (Parameter& p : parameters) {
    if (!options_.trains_selector_alone || p.is_of_selector()) continue;
    p.value.requires_grad_(false);
    p.kind = ParameterKind::kState;
  }
  optimizers_ = std::make_unique<Optimizers>(parameters, options_);
}

Status Trainer::save() const {
  return run_.save(options_, describe_run(options_), optimizers_.get());
}

// --- Reading ---

Result<PackedBatch> Trainer::read_pass(uint64_t pass, const std::vector<uint32_t>& texts) const {
  return guarded([&]() -> Result<PackedBatch> {
    BatchPacker packer(folder_->shape(), options_.drafter.block_size);
    const auto step = static_cast<uint32_t>(pass / options_.passes_per_step);
    for (const uint32_t text : texts) {
      US_ASSIGN(const FeatureSequence sequence, folder_->read(text));
      packer.add(sequence,
                 sample_blocks(sequence.token_ids, sequence.loss_mask, options_.drafter.block_size,
                               options_.blocks_per_sequence, {options_.seed, step, text}));
    }
    PackedBatch packed = packer.pack();
    if (options_.device.is_cuda()) {  // so that copying to the device takes nobody's time
      packed.features = packed.features.pin_memory();
      packed.last_hidden = packed.last_hidden.pin_memory();
    }
    return packed;
  });
}

void Trainer::prefetch(uint64_t pass) {
  std::vector<uint32_t> texts;
  for (uint32_t i = 0; i < options_.sequences_per_pass; ++i) {
    texts.push_back(order_->at(pass * options_.sequences_per_pass + i));
  }
  ahead_.emplace_back(pass, std::async(std::launch::async, [this, pass, texts = std::move(texts)] {
                        return read_pass(pass, texts);
                      }));
}

Result<PackedBatch> Trainer::take_pass(uint64_t pass) {
  if (!ahead_.empty() && ahead_.front().first != pass) ahead_.clear();
  const uint64_t end = options_.num_steps * options_.passes_per_step;
  uint64_t next = ahead_.empty() ? pass : ahead_.back().first + 1;
  for (; next < end && ahead_.size() <= kPassesAhead; ++next) prefetch(next);
  Result<PackedBatch> packed = ahead_.front().second.get();
  ahead_.pop_front();
  return packed;
}

// --- Learning ---

void Trainer::set_rounding() {
  const double done =
      static_cast<double>(num_steps_done()) / static_cast<double>(options_.num_steps);
  net_->set_rounding(options_.format == LinearFormat::kFp8 && done >= options_.fp8_from);
}

LossInput Trainer::loss_input(const torch::Tensor& rows, const TrainingBatch& batch) const {
  return {rows,
          batch.labels,
          batch.is_valid,
          head_,
          batch.teacher,
          selector_ ? &*selector_ : nullptr,
          batch.anchor_ids};
}

void Trainer::learn(const PackedBatch& packed, LossOutput* sums, StepReport* report) {
  if (packed.num_blocks() == 0) return;
  const TrainingBatch batch = place(packed, embedding_, options_.loss.needs_teacher());
  const torch::Tensor rows = drafting_rows(net_->forward(batch.blocks));
  torch::Tensor gradient;
  const LossOutput output =
      differentiate_blocks(loss_input(rows.detach(), batch), options_.loss, &gradient);
  if (rows.requires_grad()) rows.backward(gradient);
  add_sums(output, sums);
  const torch::Tensor accepted = (output.is_right.to(torch::kFloat32) * batch.is_valid).cumprod(-1);
  report->block_length += accepted.sum().item<double>() + static_cast<double>(packed.num_blocks());
  report->num_blocks += packed.num_blocks();
  report->num_tokens += packed.num_rows();
}

Result<StepReport> Trainer::step() {
  return guarded([&] { return step_unguarded(); });
}

Result<StepReport> Trainer::step_unguarded() {
  US_CHECK(num_steps_done() < options_.num_steps, "step {} of {}", num_steps_done(),
           options_.num_steps);
  set_rounding();
  optimizers_->begin_step();
  StepReport report;
  LossOutput sums;
  for (uint32_t i = 0; i < options_.passes_per_step; ++i) {
    US_ASSIGN(const PackedBatch packed, take_pass(num_steps_done() * options_.passes_per_step + i));
    learn(packed, &sums, &report);
  }
  report.loss = sums.loss();
  if (report.num_blocks > 0) report.block_length /= static_cast<double>(report.num_blocks);
  if (!std::isfinite(report.loss)) {
    return make_error(ErrorCode::kInternal,
                      "step {}: the loss is not finite; try a smaller learning rate",
                      num_steps_done() + 1);
  }
  if (sums.divisor > 0) {
    US_ASSIGN(report.gradient_norm, optimizers_->update(sums.divisor, num_steps_done()));
  }
  run_.count_step();
  return report;
}

// --- Evaluating ---

Result<Evaluation> Trainer::evaluate() {
  return guarded([&] { return evaluate_unguarded(); });
}

Result<Evaluation> Trainer::evaluate_unguarded() {
  US_CHECK(eval_folder_.has_value(), "no texts to evaluate with");
  net_->set_rounding(options_.format == LinearFormat::kFp8);  // what would be exported
  Evaluation result;
  LossOutput sums;
  const size_t count = std::min<size_t>(options_.eval_sequences, eval_folder_->num_sequences());
  for (size_t text = 0; text < count; ++text) {
    US_TRY(evaluate_text(text, &sums, &result));
  }
  result.loss = sums.loss();
  return result;
}

Status Trainer::evaluate_text(size_t text, LossOutput* sums, Evaluation* result) const {
  const torch::NoGradGuard no_grad;
  US_ASSIGN(const FeatureSequence sequence, eval_folder_->read(text));
  const std::vector<int64_t> anchors = possible_anchors(sequence.loss_mask);
  if (anchors.empty()) return {};
  const uint32_t block_size = options_.drafter.block_size;
  BatchPacker packer(eval_folder_->shape(), block_size);
  packer.add(sequence, make_blocks(sequence.token_ids, sequence.loss_mask, anchors, block_size,
                                   static_cast<uint32_t>(anchors.size())));
  const TrainingBatch batch = place(packer.pack(), embedding_, options_.loss.needs_teacher());
  const torch::Tensor rows = drafting_rows(net_->forward(batch.blocks));
  const LossOutput output = evaluate_blocks(loss_input(rows, batch), options_.loss);
  add_sums(output, sums);
  const auto add_walk = [&](const torch::Tensor& is_right, Acceptance* acceptance) {
    const torch::Tensor flags = is_right.to(torch::kCPU, torch::kUInt8).contiguous();
    acceptance->add(walk(sequence.loss_mask,
                         {flags.data_ptr<uint8_t>(), static_cast<size_t>(flags.numel())},
                         block_size));
  };
  add_walk(output.is_right, &result->acceptance);
  add_walk(output.is_likeliest, &result->likeliest);
  add_walk(output.is_candidate, &result->possible);
  return {};
}

// --- Running ---

Status Trainer::log_evaluation() {
  US_ASSIGN(const Evaluation evaluation, evaluate());
  const Acceptance& acceptance = evaluation.acceptance;
  log_(
      fmt::format("evaluation after {} steps: accepted length {:.3f} over {} cycles, loss {:.4f}, "
                  "accepted by place{}",
                  num_steps_done(), acceptance.accepted_length(), acceptance.num_cycles,
                  evaluation.loss, shares(acceptance)));
  if (!selector_) return {};
  log_(fmt::format("  the likeliest tokens alone: {:.3f},{}; the best of the candidates: {:.3f},{}",
                   evaluation.likeliest.accepted_length(), shares(evaluation.likeliest),
                   evaluation.possible.accepted_length(), shares(evaluation.possible)));
  return {};
}

Result<bool> Trainer::run() {
  RunHooks hooks;
  hooks.step = [this]() -> Result<StepLine> {
    US_ASSIGN(const StepReport report, step());
    return StepLine{fmt::format("loss {:.4f}  length {:.2f}  gradient {:.3f}", report.loss,
                                report.block_length, report.gradient_norm),
                    report.num_tokens};
  };
  if (eval_folder_) hooks.evaluate = [this] { return log_evaluation(); };
  hooks.save = [this] { return save(); };
  US_ASSIGN(const bool is_complete, run_steps(options_, run_, hooks, log_));
  US_TRY(guarded([&] { return export_drafter(*net_, options_.output, options_.format); }));
  log_(fmt::format("{}; the drafter is in {}", end_line(options_, run_), options_.output));
  return is_complete;
}

}  // namespace ultraspeed::train
