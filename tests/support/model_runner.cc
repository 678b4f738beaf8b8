#include "support/model_runner.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "cpu/executor.h"
#include "model/checkpoint.h"
#include "model/drafter.h"
#include "plan/plan.h"
#include "program/verify.h"

namespace ultraspeed::test {

Result<ModelRunner> ModelRunner::open(const std::string& directory, const RunnerOptions& options) {
  ModelRunner runner;
  US_ASSIGN(runner.config_, model::ModelConfig::load(directory));
  US_ASSIGN(const model::Checkpoint checkpoint, model::Checkpoint::open(directory));
  const model::WeightLoader loader(checkpoint, runner.config_);
  plan::PlanOptions plan_options;
  std::optional<model::Drafter> drafter;
  model::DrafterConfig drafter_config;
  if (!options.drafter.empty()) {
    US_ASSIGN(drafter, model::Drafter::open(options.drafter));
    drafter_config = drafter->config();
    if (options.change_drafter) options.change_drafter(&drafter_config);
    plan_options.drafter = &drafter_config;
    plan_options.is_drafting = true;
  }
  model::ModelConfig mtp;
  if (options.has_mtp) {
    US_ASSIGN(mtp, runner.config_.mtp_stack(checkpoint.contents().num_mtp_layers));
    plan_options.mtp = &mtp;
  }
  const model::WeightLoader mtp_loader(checkpoint, mtp);
  const auto is_drafters = [](const model::WeightSource& source) {
    return source.stack == model::Stack::kDflash;
  };
  const auto loader_of = [&](const model::WeightSource& source) -> const model::WeightLoader& {
    return source.stack == model::Stack::kMtp ? mtp_loader : loader;
  };
  const auto shape_of = [&](const model::WeightSource& source) {
    return is_drafters(source) ? drafter->shape(source) : loader_of(source).shape(source);
  };
  plan_options.width = options.width;
  plan_options.num_ranks = options.num_ranks;
  plan_options.all_reduce = options.all_reduce;
  plan_options.logits = options.logits;
  plan_options.max_context = options.max_context;
  US_ASSIGN(plan::Plan plan, plan::make_plan(runner.config_, shape_of,
                                             cpu::cpu_limits(options.num_workers), plan_options));
  if (options.change_program) options.change_program(&plan.program);
  if (options.verify) US_TRY(program::verify(plan.program));
  const auto read_weight = [&](uint32_t rank, program::WeightId weight, uint32_t index,
                               std::span<std::byte> out) -> Status {
    model::WeightSource source = plan::source_on(rank, options.num_ranks, plan.sources[weight]);
    source.expert = index;
    US_TRY(is_drafters(source) ? drafter->load(source, out, &loader)
                               : loader_of(source).load(source, out));
    if (options.damage) options.damage(source, out);
    return {};
  };
  program::CacheLimits limits;
  const uint32_t pages_each = options.max_context / plan::kKvPagePositions + 1;
  limits.num_sequences = options.num_sequences;
  limits.num_kv_pages = options.num_sequences * pages_each;
  for (uint32_t sequence = 0; sequence < options.num_sequences; ++sequence) {
    std::vector<uint32_t>& pages = runner.pages_.emplace_back(pages_each);
    std::iota(pages.begin(), pages.end(), sequence * pages_each);
  }
  runner.executor_ = options.make_executor ? options.make_executor() : cpu::make_cpu_executor({});
  runner.program_ = plan.program;
  US_TRY(runner.executor_->load({std::move(plan.program)}, limits, read_weight));
  return runner;
}

Result<std::vector<TopLogits>> ModelRunner::feed(std::span<const int32_t> tokens, size_t num_wanted,
                                                 uint32_t count) {
  std::vector<TopLogits> results;
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
    columns.back().next_tokens = tokens.subspan(end);
    US_ASSIGN(const program::StepOutput output, step(columns));
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

Result<program::StepOutput> ModelRunner::step(const std::vector<program::Column>& columns) {
  const std::vector<std::span<const uint32_t>> tables(pages_.begin(), pages_.end());
  program::StepOutput output;
  US_TRY(executor_->run(0, {columns, tables}, &output));
  return output;
}

std::vector<program::Column> ModelRunner::draft_block(int32_t anchor, uint32_t num_rows) const {
  std::vector<program::Column> columns(num_rows);
  for (uint32_t i = 0; i < num_rows; ++i) {
    columns[i].token_id = anchor;
    columns[i].is_drafted = i > 0;
    columns[i].position = position_ + i;
    columns[i].wants_logits = true;
  }
  return columns;
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
