#include "support/stage_executor.h"

#include <utility>

#include "base/check.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::test {
namespace {

class StageExecutor final : public program::Executor, public StageValues {
 public:
  explicit StageExecutor(StageHook hook) : hook_(std::move(hook)) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return machine_.load(std::move(programs), limits, read_weight);
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    US_TRY(machine_.check_step(index, input));
    output->columns.assign(input.columns.size(), {});
    machine_.poison_arenas();
    scratch_.begin_step();
    program_ = &machine_.programs()[index];
    std::vector<size_t> next(program_->lists.size(), 0);
    for (uint32_t stage = 0; stage < program_->stages.size(); ++stage) {
      for (uint32_t list = 0; list < next.size(); ++list) {
        const std::vector<program::Task>& tasks = program_->lists[list];
        for (; next[list] < tasks.size() && tasks[next[list]].stage == stage; ++next[list]) {
          US_TRY(run_units(list, tasks[next[list]], input, output));
        }
      }
      hook_(program_->stages[stage].name, this);
    }
    return {};
  }

  Status copy_cache(const program::CacheCopy& copy) override {
    machine_.copy_cache(copy);
    return {};
  }

  std::span<float> values(const std::string& buffer) override {
    for (const program::BufferDecl& decl : program_->buffers) {
      if (decl.name != buffer) continue;
      return std::span(machine_.rank(0).arena)
          .subspan(decl.offset_bytes / sizeof(float), decl.size_bytes / sizeof(float));
    }
    US_CHECK(false, "no buffer '{}'", buffer);
    return {};
  }

 private:
  Status run_units(uint32_t list, const program::Task& task, const program::StepInput& input,
                   program::StepOutput* output) {
    const cpu::OpContext context(&machine_, *program_, list / program_->num_workers, task, input,
                                 output, &scratch_);
    const uint32_t units = cpu::unit_count(context);
    for (uint32_t unit = 0; unit < units; ++unit) US_TRY(cpu::run_task(context, unit));
    return {};
  }

  StageHook hook_;
  cpu::Machine machine_;
  cpu::Scratch scratch_;
  const program::Program* program_ = nullptr;
};

}  // namespace

std::unique_ptr<program::Executor> make_stage_executor(StageHook hook) {
  return std::make_unique<StageExecutor>(std::move(hook));
}

}  // namespace ultraspeed::test
