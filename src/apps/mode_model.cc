#include "apps/mode_model.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <variant>

#include "base/check.h"
#include "cpu/executor.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::apps {

constexpr uint32_t kPrefill = 1;  // engine/program_engine.h

// Runs the one task list of a program for one worker. Where a token would be chosen it keeps the
// logits instead.
class LogitsExecutor final : public program::Executor {
 public:
  explicit LogitsExecutor(const Mode& mode) : mode_(mode) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return machine_.load(std::move(programs), limits, read_weight, mode_.activations,
                         mode_.kv_cache);
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(machine_.check_step(index, input));
    const program::Program& program = machine_.programs()[index];
    output->columns.assign(input.columns.size(), {});
    scratch_.begin_step();
    for (const program::Task& task : program.lists.at(0)) {
      const program::Operands& operands = program.stages[task.stage].operands;
      const cpu::OpContext context(&machine_, program, 0, task, input, output, &scratch_);
      if (const auto* sample = std::get_if<program::SampleOperands>(&operands)) {
        keep_logits(context, *sample);
      } else if (!std::holds_alternative<program::AcceptOperands>(operands)) {
        const uint32_t units = cpu::unit_count(context);
        for (uint32_t unit = 0; unit < units; ++unit) US_TRY(cpu::run_task(context, unit));
      }
    }
    return {};
  }

  Status copy_cache(const program::CacheCopy&) override { return {}; }

  std::span<const float> logits() const { return logits_; }

 private:
  void keep_logits(const cpu::OpContext& context, const program::SampleOperands& sample) {
    const size_t vocab_size = sample.vocab_size;
    logits_.resize(context.num_columns() * vocab_size);
    const uint32_t end = std::min(context.row_end(), context.num_columns());
    const uint32_t begin = std::min(context.task.row_begin, end);
    const float* logits = context.buffer(sample.logits);
    std::copy(logits + begin * vocab_size, logits + end * vocab_size,
              logits_.begin() + static_cast<ptrdiff_t>(begin * vocab_size));
  }

  Mode mode_;
  cpu::Machine machine_;
  cpu::Scratch scratch_;
  std::vector<float> logits_;
};

Result<ModeModel> ModeModel::open(const LoadedModel& model, const Mode& mode, uint32_t max_tokens) {
  ModeModel result;
  result.vocab_size_ = model.config().vocab_size;
  auto executor = std::make_unique<LogitsExecutor>(mode);
  result.executor_ = executor.get();
  const engine::EngineOptions options{.max_context = max_tokens, .max_sessions = 1};
  US_ASSIGN(result.engine_,
            engine::Engine::open(model.config(), model.checkpoint(), std::move(executor),
                                 cpu::cpu_limits(1), options, {}));
  const program::Program& program = result.engine_->programs()[kPrefill];
  result.pages_.resize((max_tokens + program.kv_page_positions - 1) / program.kv_page_positions);
  std::iota(result.pages_.begin(), result.pages_.end(), 0u);
  return result;
}

uint32_t ModeModel::width() const {
  return engine_->programs()[kPrefill].width;
}

Result<std::span<const float>> ModeModel::logits(std::span<const int32_t> tokens,
                                                 uint32_t position) {
  std::vector<program::Column> columns(tokens.size());
  for (uint32_t i = 0; i < columns.size(); ++i) {
    columns[i].token_id = tokens[i];
    columns[i].position = position + i;
    columns[i].wants_logits = true;
  }
  const std::span<const uint32_t> pages(pages_);
  program::StepOutput output;
  US_TRY(executor_->run(kPrefill, {.columns = columns, .page_tables = {&pages, 1}}, &output));
  return executor_->logits();
}

}  // namespace ultraspeed::apps
