// step_costs MODEL [f32|int8] [POSITION] [THREADS]: what a step that verifies 8 columns of a text
// costs, and one of 1 column. First by operation on one thread, without waiting; then the whole
// step of the executor. Steps of 1 and 8 columns take turns and the fastest counts, so that other
// work on the machine disturbs little. The text is the model folder's README.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "apps/files.h"
#include "apps/loaded_model.h"
#include "bench_steps.h"
#include "cpu/executor.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"
#include "engine/engine.h"

namespace ultraspeed {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kMostColumns = 8;

double us_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

// Microseconds of a step by opcode.
using OpTimes = std::array<double, program::kNumOpcodes>;

// Runs the one task list of a program for one worker, and times each task.
class TimingExecutor final : public program::Executor {
 public:
  TimingExecutor(program::Activations activations, OpTimes* times)
      : activations_(activations), times_(times) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return machine_.load(std::move(programs), limits, read_weight, activations_);
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    const program::Program& program = machine_.programs()[index];
    output->columns.assign(input.columns.size(), {});
    times_->fill(0);
    scratch_.begin_step();
    for (const program::Task& task : program.lists.at(0)) {
      const auto begin = Clock::now();
      const cpu::OpContext context(&machine_, program, 0, task, input, output, &scratch_);
      const uint32_t units = cpu::unit_count(context);
      for (uint32_t unit = 0; unit < units; ++unit) US_TRY(cpu::run_task(context, unit));
      const auto& operands = program.stages[task.stage].operands;
      const auto opcode = std::visit([](const auto& op) { return op.kOpcode; }, operands);
      times_->at(static_cast<size_t>(opcode)) += us_since(begin);
    }
    return {};
  }

  Status copy_cache(const program::CacheCopy&) override { return {}; }

 private:
  cpu::Machine machine_;
  program::Activations activations_;
  OpTimes* times_;
  cpu::Scratch scratch_;
};

// A text whose first `position` tokens are in the caches of an executor.
class Text {
 public:
  Text(const apps::LoadedModel& model, std::vector<int32_t> tokens, uint32_t position,
       std::unique_ptr<program::Executor> executor, uint32_t num_threads)
      : tokens_(std::move(tokens)), position_(position), executor_(executor.get()) {
    const engine::EngineOptions options{.max_context = position + kMostColumns + 1,
                                        .max_sessions = 1,
                                        .decode_width = kMostColumns};
    engine_ =
        value_or_exit(engine::Engine::open(model.config(), model.checkpoint(), std::move(executor),
                                           cpu::cpu_limits(num_threads), options, {}));
    const auto& programs = engine_->programs();
    pages_.resize((position + kMostColumns) / programs[kDecode].kv_page_positions + 1);
    std::iota(pages_.begin(), pages_.end(), 0u);
    for (uint32_t begin = 0; begin < position;) {
      const uint32_t count = std::min(position - begin, programs[kPrefill].width);
      step(kPrefill, begin, count);
      begin += count;
    }
  }

  // Microseconds of the next step; it changes nothing that a later one reads.
  double decode(uint32_t num_columns) {
    const auto begin = Clock::now();
    step(kDecode, position_, num_columns);
    return us_since(begin);
  }

 private:
  void step(uint32_t program, uint32_t begin, uint32_t count) {
    run_text_step(executor_, program, tokens_, begin, count, pages_);
  }

  std::vector<int32_t> tokens_;
  uint32_t position_;
  program::Executor* executor_;  // the engine's
  std::unique_ptr<engine::Engine> engine_;
  std::vector<uint32_t> pages_;
};

// Microseconds of the fastest of many steps, and of the fastest of each operation.
struct Fastest {
  double step = std::numeric_limits<double>::infinity();
  OpTimes by_op{};

  void take(double us, const OpTimes& times) {
    for (size_t op = 0; op < times.size(); ++op) {
      by_op[op] = std::isinf(step) ? times[op] : std::min(by_op[op], times[op]);
    }
    step = std::min(step, us);
  }
};

struct Costs {
  Fastest one, eight;
};

Costs measure(Text* text, const OpTimes& times) {
  Costs costs;
  for (int repeat = 0; repeat < 600; ++repeat) {
    costs.one.take(text->decode(1), times);
    costs.eight.take(text->decode(kMostColumns), times);
  }
  return costs;
}

void print_line(std::string_view name, double one, double eight) {
  fmt::print("{:<16} {:9.1f} {:9.1f} {:6.2f}\n", name, one, eight, eight / one);
}

}  // namespace
}  // namespace ultraspeed

int main(int argc, char** argv) {
  using namespace ultraspeed;
  if (argc < 2) {
    fmt::print(stderr, "usage: step_costs MODEL [f32|int8] [POSITION] [THREADS]\n");
    return 2;
  }
  const bool is_int8 = argc > 2 && std::string_view(argv[2]) == "int8";
  const auto activations = is_int8 ? program::Activations::kInt8 : program::Activations::kF32;
  const auto position = static_cast<uint32_t>(argc > 3 ? std::atoi(argv[3]) : 256);
  const auto num_threads = static_cast<uint32_t>(argc > 4 ? std::atoi(argv[4]) : 1);
  apps::ModelOptions options;
  options.directory = argv[1];
  const auto model = value_or_exit(apps::LoadedModel::open(options));
  const auto readme = value_or_exit(apps::read_file(model.directory() + "/README.md"));
  const auto tokens = value_or_exit(value_or_exit(model.require_tokenizer())->encode(readme));

  fmt::print("us of a step     {:>9} {:>9} {:>6}\n", "1 column", "8 columns", "ratio");
  OpTimes times{};
  {
    Text text(model, tokens, position, std::make_unique<TimingExecutor>(activations, &times), 1);
    const Costs costs = measure(&text, times);
    for (size_t op = 0; op < program::kNumOpcodes; ++op) {
      if (costs.one.by_op[op] == 0) continue;
      print_line(program::kOpcodeNames[op], costs.one.by_op[op], costs.eight.by_op[op]);
    }
    print_line("all, no waits", costs.one.step, costs.eight.step);
  }
  Text text(model, tokens, position, cpu::make_cpu_executor({.activations = activations}),
            num_threads);
  const Costs costs = measure(&text, times);
  print_line(fmt::format("step, {} threads", num_threads), costs.one.step, costs.eight.step);
}
