#include "train/engine_drafter.h"

#include "base/check.h"
#include "drafter/kept_taps.h"
#include "support/model_runner.h"
#include "train/net_weights.h"

namespace ultraspeed::test {
namespace {

constexpr uint32_t kWidth = 16;

torch::Tensor table_of(const DenseWeight& weight) {
  return tensor_of(weight.values, {weight.rows, weight.columns});
}

program::StepOutput run_step(ModelRunner* runner, const std::vector<program::Column>& columns) {
  auto output = runner->step(columns);
  US_CHECK(output.has_value(), "{}", output.error().message);
  return std::move(*output);
}

}  // namespace

EngineDrafter::EngineDrafter(const std::string& drafter_directory, const DrafterOptions& options)
    : drafter_directory_(drafter_directory), options_(options) {
  GeneratorOptions target;
  target.intermediate_size = 512;
  auto generated = write_checkpoint(target_directory_.path(), target);
  US_CHECK(generated.has_value(), "{}", generated.error().message);
  target_ = std::move(*generated);
}

EngineBlock EngineDrafter::draft(const std::vector<int32_t>& tokens) const {
  std::vector<program::Column> columns;
  Rows taps;
  std::vector<float> logits;
  RunnerOptions options;
  options.width = kWidth;
  options.max_context = 256;
  options.drafter = drafter_directory_;
  options.make_executor = [&] {
    return make_stage_executor([&](const std::string& stage, StageValues* values) {
      keep_taps(options_, stage, values, columns, [&](const auto&) -> Rows& { return taps; });
      if (stage != "draft.lm_head") return;
      const auto computed = values->values("draft.logits");
      logits.assign(computed.begin(), computed.end());
    });
  };
  auto runner = ModelRunner::open(target_directory_.path(), options);
  US_CHECK(runner.has_value(), "{}", runner.error().message);
  const auto context = static_cast<uint32_t>(tokens.size()) - 1;
  for (uint32_t begin = 0; begin < context; begin += kWidth) {
    columns.clear();
    for (uint32_t i = begin; i < std::min(begin + kWidth, context); ++i) {
      columns.emplace_back().token_id = tokens[i];
      columns.back().position = i;
    }
    run_step(&*runner, columns);
  }
  runner->set_length(context);
  std::vector<float> features;
  for (uint32_t i = 0; i < context; ++i) {
    for (const double value : taps[i]) features.push_back(static_cast<float>(value));
  }
  columns = runner->draft_block(tokens.back(), options_.block_size);
  const program::StepOutput output = run_step(&*runner, columns);

  const int64_t masks = options_.block_size - 1, vocab = options_.vocab_size;
  EngineBlock block;
  block.features = tensor_of(features, {context, -1});
  logits.resize(static_cast<size_t>((masks + 1) * vocab));
  block.logits = tensor_of(logits, {masks + 1, vocab}).narrow(0, 1, masks).clone();
  for (uint32_t row = 1; row < options_.block_size; ++row) {
    block.ids.push_back(output.columns[row].drafted_id);
  }
  return block;
}

torch::Tensor EngineDrafter::embedding() const {
  return table_of(target_.at(model::TensorRole::kEmbedding));
}

torch::Tensor EngineDrafter::head() const {
  return table_of(target_.at(model::TensorRole::kLmHead));
}

train::BlockBatch block_batch(const torch::Tensor& features, const std::vector<int32_t>& tokens,
                              const std::vector<int64_t>& anchors, const torch::Tensor& embedding) {
  train::BlockBatch batch;
  batch.features = features;
  batch.positions = torch::arange(features.size(0), torch::kInt64);
  batch.anchor_row = torch::tensor(anchors, torch::kInt64);
  batch.sequence_begin = torch::zeros_like(batch.anchor_row);
  std::vector<int64_t> ids;
  for (const int64_t anchor : anchors) ids.push_back(tokens[static_cast<size_t>(anchor)]);
  batch.anchors = embedding.index_select(0, torch::tensor(ids, torch::kInt64));
  return batch;
}

}  // namespace ultraspeed::test
