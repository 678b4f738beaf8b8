#include "train/language_trainer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "train/language_export.h"
#include "train/mxfp4_rounding.h"
#include "train/token_file.h"

namespace ultraspeed::train {
namespace {

// The net's parameters, those that stay as they are without a gradient and as kState.
std::vector<Parameter> learning(const LanguageNet& net, Trained trained) {
  std::vector<Parameter> parameters = net.parameters();
  for (Parameter& p : parameters) {
    const bool learns = is_expert(p) || trained == Trained::kAll ||
                        (trained == Trained::kAllButRouters && !is_router(p));
    if (p.kind == ParameterKind::kState || learns) continue;
    p.value.requires_grad_(false);
    p.kind = ParameterKind::kState;
  }
  return parameters;
}

double largest_load(const std::vector<torch::Tensor>& loads) {
  double largest = 0;
  for (const torch::Tensor& load : loads) {
    const torch::Tensor share = load.to(torch::kFloat64);
    largest = std::max(largest, (share.max() / share.mean()).item<double>());
  }
  return largest;
}

uint64_t count_numbers(const LanguageNet& net) {
  uint64_t count = 0;
  for (const Parameter& p : net.parameters()) count += static_cast<uint64_t>(p.value.numel());
  return count;
}

}  // namespace

// --- Opening ---

Result<std::unique_ptr<LanguageTrainer>> LanguageTrainer::open(const LanguageOptions& options,
                                                               Log log) {
  std::unique_ptr<LanguageTrainer> trainer(new LanguageTrainer(options, std::move(log)));
  US_TRY(guarded([&] { return trainer->load(); }));
  return trainer;
}

Status LanguageTrainer::load() {
  if (options_.task == LanguageTask::kQat) US_TRY(find_teacher());
  US_ASSIGN(sequences_, read_tokens(options_.tokens));
  if (!options_.eval_tokens.empty()) {
    US_ASSIGN(eval_sequences_, read_tokens(options_.eval_tokens));
  }
  US_TRY(check_shape(options_.shape));
  US_TRY(make_nets());
  order_.emplace(options_.seed, sequences_.count());
  log_(fmt::format("{} sequences of {} tokens; {} parameters", sequences_.count(), options_.length,
                   count_numbers(*net_)));
  US_TRY(check_destinations(options_));
  return run_.resume(options_, describe(), optimizers_.get(), log_);
}

Status LanguageTrainer::find_teacher() {
  US_ASSIGN(const CheckpointStart start, read_checkpoint_start(options_.teacher));
  auto shape = shape_of_run(start.run);
  if (!shape) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {}", options_.teacher,
                      shape.error().message);
  }
  options_.shape = *shape;
  teacher_text_ = fmt::format(" teacher {:016x}", start.file_sum);
  log_(fmt::format("the teacher learned for {} steps", start.num_steps));
  return {};
}

Result<LanguageTrainer::Sequences> LanguageTrainer::read_tokens(const std::string& path) {
  US_ASSIGN(const TokenFile file, TokenFile::read(path));
  if (options_.shape.vocab_size == 0) options_.shape.vocab_size = file.vocab_size;
  if (file.vocab_size > options_.shape.vocab_size) {
    return make_error(ErrorCode::kInvalidArgument, "{}: of a vocabulary of {} tokens, not {}", path,
                      file.vocab_size, options_.shape.vocab_size);
  }
  const auto end = static_cast<int32_t>(options_.shape.eos_token_id);
  if (!file.ids.empty() && file.ids.back() != end) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: texts end with token {}, which is not the model's --eos {}", path,
                      file.ids.back(), end);
  }
  Sequences sequences;
  sequences.length = options_.length;
  sequences.ids = torch::tensor(file.ids, torch::kInt32).to(options_.device);
  if (sequences.count() > 0) return sequences;
  return make_error(ErrorCode::kInvalidArgument, "{}: {} tokens; expected more than --length {}",
                    path, file.ids.size(), options_.length);
}

size_t LanguageTrainer::Sequences::count() const {
  return ids.size(0) == 0 ? 0 : static_cast<size_t>(ids.size(0) - 1) / length;
}

torch::Tensor LanguageTrainer::Sequences::take(const std::vector<int64_t>& numbers) const {
  const torch::Tensor begin =
      torch::tensor(numbers, torch::kInt64).to(ids.device()) * int64_t{length};
  const torch::Tensor rows =
      begin.unsqueeze(1) + torch::arange(int64_t{length} + 1, begin.options());
  return ids.index_select(0, rows.flatten()).to(torch::kInt64).view(rows.sizes());
}

Status LanguageTrainer::make_nets() {
  const model::ModelConfig config = language_config(options_.shape);
  NetOptions options;
  options.compute = options_.compute;
  options.device = options_.device;
  net_ = std::make_unique<LanguageNet>(config, options, options_.seed);
  if (options_.task == LanguageTask::kQat) {
    teacher_ = std::make_unique<LanguageNet>(config, options, options_.seed);
    std::vector<NamedTensor> tensors;
    for (const Parameter& p : teacher_->parameters()) tensors.push_back({p.name, p.value});
    US_TRY(read_first_tensors(options_.teacher, tensors));
    for (Parameter& p : teacher_->parameters()) {  // as its checkpoint for the engine has them
      p.value.requires_grad_(false);
      p.value.copy_(teacher_->exported(p));
      net_->set(p.name, p.value);
    }
    net_->set_rounding(true);
    US_TRY(check_rounding());
  }
  const bool is_qat = options_.task == LanguageTask::kQat;
  optimizers_ = std::make_unique<Optimizers>(
      learning(*net_, is_qat ? options_.trained : Trained::kAll), options_);
  return {};
}

// The device must round as processors do, on which that is tested against the engine's codec.
Status LanguageTrainer::check_rounding() const {
  const torch::NoGradGuard no_grad;
  int64_t count = 0;
  for (const Parameter& p : net_->parameters()) {
    if (!is_expert(p)) continue;
    const torch::Tensor here = round_to_mxfp4(p.value).to(torch::kCPU);
    const torch::Tensor expected = round_to_mxfp4(p.value.to(torch::kCPU));
    if (!torch::equal(here.view(torch::kInt32), expected.view(torch::kInt32))) {
      return make_error(ErrorCode::kInternal, "this device rounds '{}' otherwise than a processor",
                        p.name);
    }
    count += here.numel();
  }
  log_(fmt::format("{} experts' numbers round as on a processor, bit for bit", count));
  return {};
}

std::string LanguageTrainer::describe() const {
  return describe_run(options_) + teacher_text_;
}

Status LanguageTrainer::save() const {
  return run_.save(options_, describe(), optimizers_.get());
}

// --- Learning ---

// Adds up the gradients of a pass's losses, and gives their sum. Logits of some rows at a time:
// each part gives the gradient of the net's output, and the net is differentiated once with all of
// it.
double LanguageTrainer::learn(const torch::Tensor& ids, std::vector<torch::Tensor>* loads) {
  const torch::Tensor inputs = ids.narrow(1, 0, options_.length).contiguous();
  const torch::Tensor labels = ids.narrow(1, 1, options_.length).reshape({-1});
  const LanguageOutput output = net_->forward(inputs);
  torch::Tensor soft;
  if (options_.loss.needs_teacher()) {
    const torch::NoGradGuard no_grad;
    soft = teacher_->forward(inputs).hidden.flatten(0, 1);
  }
  const torch::Tensor hidden = output.hidden.flatten(0, 1);
  const torch::Tensor rows = hidden.detach().requires_grad_(true);
  torch::Tensor sum = torch::zeros({}, torch::dtype(torch::kFloat64).device(options_.device));
  for (int64_t at = 0; at < rows.size(0); at += options_.chunk_rows) {
    const int64_t count = std::min<int64_t>(options_.chunk_rows, rows.size(0) - at);
    torch::Tensor teacher_logits;
    if (soft.defined()) {
      const torch::NoGradGuard no_grad;
      teacher_logits = teacher_->logits(soft.narrow(0, at, count));
    }
    const torch::Tensor loss = mask_losses(net_->logits(rows.narrow(0, at, count)), teacher_logits,
                                           labels.narrow(0, at, count), options_.loss)
                                   .sum();
    loss.backward();
    sum += loss.detach().to(torch::kFloat64);
  }
  hidden.backward(rows.grad());
  if (loads->empty()) {
    *loads = output.loads;
  } else {
    for (size_t i = 0; i < loads->size(); ++i) (*loads)[i] += output.loads[i];
  }
  return sum.item<double>();
}

Result<LanguageReport> LanguageTrainer::step() {
  return guarded([&] { return step_unguarded(); });
}

Result<LanguageReport> LanguageTrainer::step_unguarded() {
  US_CHECK(num_steps_done() < options_.num_steps, "step {} of {}", num_steps_done(),
           options_.num_steps);
  optimizers_->begin_step();
  LanguageReport report;
  std::vector<torch::Tensor> loads;
  for (uint32_t pass = 0; pass < options_.passes_per_step; ++pass) {
    std::vector<int64_t> numbers;
    for (uint32_t i = 0; i < options_.sequences_per_pass; ++i) {
      const uint64_t passes = num_steps_done() * options_.passes_per_step + pass;
      numbers.push_back(order_->at(passes * options_.sequences_per_pass + i));
    }
    report.loss += learn(sequences_.take(numbers), &loads);
    report.num_tokens += int64_t{options_.sequences_per_pass} * options_.length;
  }
  report.loss /= static_cast<double>(report.num_tokens);
  if (!std::isfinite(report.loss)) {
    return make_error(ErrorCode::kInternal,
                      "step {}: the loss is not finite; try a smaller learning rate",
                      num_steps_done() + 1);
  }
  US_ASSIGN(report.gradient_norm,
            optimizers_->update(static_cast<double>(report.num_tokens), num_steps_done()));
  if (options_.task == LanguageTask::kPretrain) {
    net_->balance(loads, options_.balance_rate * schedule_factor(options_, num_steps_done()));
  }
  report.largest_load = largest_load(loads);
  run_.count_step();
  return report;
}

// --- Evaluating ---

Result<LanguageEvaluation> LanguageTrainer::evaluate() {
  set_compute(torch::kFloat32);
  auto evaluation = guarded([&] { return evaluate_unguarded(); });
  set_compute(options_.compute);
  return evaluation;
}

void LanguageTrainer::set_compute(torch::Dtype compute) {
  net_->set_compute(compute);
  if (teacher_) teacher_->set_compute(compute);
}

void LanguageTrainer::evaluate_pass(const torch::Tensor& ids, LanguageEvaluation* sums) const {
  const torch::Tensor inputs = ids.narrow(1, 0, options_.length).contiguous();
  const torch::Tensor labels = ids.narrow(1, 1, options_.length).reshape({-1, 1});
  const auto log_shares = [&](const LanguageNet& net, const torch::Tensor& rows) {
    return net.logits(rows).log_softmax(-1);
  };
  const auto nll = [&](const torch::Tensor& shares, const torch::Tensor& of) {
    return -shares.gather(1, of).sum(torch::kFloat64).item<double>();
  };
  const torch::Tensor hidden = net_->forward(inputs).hidden.flatten(0, 1);
  torch::Tensor soft;
  if (teacher_) soft = teacher_->forward(inputs).hidden.flatten(0, 1);
  for (int64_t at = 0; at < hidden.size(0); at += options_.chunk_rows) {
    const int64_t count = std::min<int64_t>(options_.chunk_rows, hidden.size(0) - at);
    const torch::Tensor log_q = log_shares(*net_, hidden.narrow(0, at, count));
    const torch::Tensor part = labels.narrow(0, at, count);
    sums->nll += nll(log_q, part);
    sums->num_tokens += count;
    if (!teacher_) continue;
    const torch::Tensor log_p = log_shares(*teacher_, soft.narrow(0, at, count));
    sums->teacher_nll += nll(log_p, part);
    sums->kl += (log_p.exp() * (log_p - log_q)).sum(torch::kFloat64).item<double>();
    sums->agreement += (log_p.argmax(-1) == log_q.argmax(-1)).sum().item<double>();
  }
}

Result<LanguageEvaluation> LanguageTrainer::evaluate_unguarded() {
  US_CHECK(eval_sequences_.ids.defined(), "no tokens to evaluate with");
  const torch::NoGradGuard no_grad;
  LanguageEvaluation sums;
  const auto count_all = static_cast<int64_t>(eval_sequences_.count());
  const int64_t total = std::min<int64_t>(count_all, options_.eval_sequences);
  for (int64_t first = 0; first < total; first += options_.sequences_per_pass) {
    std::vector<int64_t> numbers;
    const int64_t end = std::min<int64_t>(first + options_.sequences_per_pass, total);
    for (int64_t i = first; i < end; ++i) numbers.push_back(i * count_all / total);
    evaluate_pass(eval_sequences_.take(numbers), &sums);
  }
  const auto count = static_cast<double>(sums.num_tokens);
  for (double* sum : {&sums.nll, &sums.teacher_nll, &sums.kl, &sums.agreement}) *sum /= count;
  return sums;
}

Status LanguageTrainer::log_evaluation() {
  US_ASSIGN(const LanguageEvaluation e, evaluate());
  std::string line = fmt::format("evaluation after {} steps: perplexity {:.4f}", num_steps_done(),
                                 std::exp(e.nll));
  if (teacher_) {
    line += fmt::format(", the teacher's {:.4f}, KL {:.3e}, same top token {:.2f} %",
                        std::exp(e.teacher_nll), e.kl, 100 * e.agreement);
  }
  log_(line);
  return {};
}

// --- Running ---

Result<bool> LanguageTrainer::run() {
  RunHooks hooks;
  hooks.step = [this]() -> Result<StepLine> {
    US_ASSIGN(const LanguageReport report, step());
    return StepLine{fmt::format("loss {:.4f}  load {:.2f}  gradient {:.3f}", report.loss,
                                report.largest_load, report.gradient_norm),
                    report.num_tokens};
  };
  if (eval_sequences_.ids.defined()) hooks.evaluate = [this] { return log_evaluation(); };
  hooks.save = [this] { return save(); };
  if (hooks.evaluate && num_steps_done() == 0) US_TRY(hooks.evaluate());
  US_ASSIGN(const bool is_complete, run_steps(options_, run_, hooks, log_));
  US_TRY(guarded([&] { return export_language(*net_, options_.output, options_.tokenizer); }));
  log_(fmt::format("{}; the model is in {}", end_line(options_, run_), options_.output));
  return is_complete;
}

}  // namespace ultraspeed::train
