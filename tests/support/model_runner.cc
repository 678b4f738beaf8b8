#include "support/model_runner.h"

#include <algorithm>
#include <numeric>

#include "cpu/executor.h"
#include "model/checkpoint.h"
#include "plan/plan.h"
#include "program/verify.h"

namespace ultraspeed::test {

Result<ModelRunner> ModelRunner::open(const std::string& directory, const RunnerOptions& options) {
  ModelRunner runner;
  US_ASSIGN(runner.config_, model::ModelConfig::load(directory));
  US_ASSIGN(const model::Checkpoint checkpoint, model::Checkpoint::open(directory));
  const model::WeightLoader loader(checkpoint, runner.config_);
  plan::PlanOptions plan_options;
  plan_options.width = options.width;
  plan_options.num_ranks = options.num_ranks;
  plan_options.max_context = options.max_context;
  US_ASSIGN(plan::Plan plan,
            plan::make_plan(
                runner.config_, [&](const auto& source) { return loader.shape(source); },
                cpu::cpu_limits(options.num_workers), plan_options));
  if (options.change_program) options.change_program(&plan.program);
  if (options.verify) US_TRY(program::verify(plan.program));
  const auto read_weight = [&](uint32_t rank, program::WeightId weight, uint32_t index,
                               std::span<std::byte> out) -> Status {
    model::WeightSource source = plan.sources[weight];
    source.shard = rank;
    source.expert = index;
    US_TRY(loader.load(source, out));
    if (options.damage) options.damage(source, out);
    return {};
  };
  program::CacheLimits limits;
  limits.num_kv_pages = options.max_context / plan::kKvPagePositions + 1;
  runner.pages_.resize(limits.num_kv_pages);
  std::iota(runner.pages_.begin(), runner.pages_.end(), 0u);
  runner.executor_ = options.make_executor ? options.make_executor() : cpu::make_cpu_executor({});
  runner.program_ = plan.program;
  US_TRY(runner.executor_->load({std::move(plan.program)}, limits, read_weight));
  return runner;
}

Result<std::vector<TopLogits>> ModelRunner::feed(std::span<const int32_t> tokens, size_t num_wanted,
                                                 uint32_t count) {
  std::vector<TopLogits> results;
  const std::span<const uint32_t> table(pages_);
  for (size_t first = 0; first < tokens.size(); first += program_.width) {
    const size_t end = std::min<size_t>(tokens.size(), first + program_.width);
    std::vector<program::Column> columns;
    for (size_t i = first; i < end; ++i) {
      program::Column column;
      column.token_id = tokens[i];
      column.position = position_++;
      column.wants_logits = i + num_wanted >= tokens.size();
      column.sampling.num_logprobs = count;
      columns.push_back(column);
    }
    program::StepOutput output;
    US_TRY(executor_->run(0, {columns, {&table, 1}}, &output));
    for (size_t i = 0; i < columns.size(); ++i) {
      if (!columns[i].wants_logits) continue;
      const program::ColumnOutput& column = output.columns[i];
      TopLogits top;
      for (const auto& [id, logprob] : column.top_logprobs) {
        top.ids.push_back(id);
        top.logits.push_back(logprob - column.logprob + column.logit);
      }
      results.push_back(std::move(top));
    }
  }
  return results;
}

Result<std::vector<TopLogits>> teacher_forced(ModelRunner* runner, std::span<const int32_t> prompt,
                                              std::span<const int32_t> continuation,
                                              uint32_t count) {
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  tokens.insert(tokens.end(), continuation.begin(), continuation.end() - 1);
  runner->reset();
  return runner->feed(tokens, continuation.size(), count);
}

}  // namespace ultraspeed::test
