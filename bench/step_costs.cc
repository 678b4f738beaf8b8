// step_costs MODEL [f32|int8] [POSITION] [THREADS] [DRAFTER]: what a step that verifies 8 columns
// of a text costs, and one of 1 column. First by operation on one thread, without waiting; then the
// whole step of the executor. Steps of 1 and 8 columns take turns and the fastest counts, so that
// other work on the machine disturbs little. The text is the model folder's README. With the folder
// of a DFlash drafter the 8 columns are a cycle: drafted, verified, and made context; what the
// drafter does is listed apart.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/files.h"
#include "apps/loaded_model.h"
#include "bench_steps.h"
#include "cpu/executor.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"
#include "engine/engine.h"
#include "model/drafter.h"

namespace ultraspeed {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint32_t kMostColumns = 8;

double us_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

// Microseconds of a step by opcode.
// Those of a drafter, draft and context, come after the target's.
using OpTimes = std::array<double, 2 * program::kNumOpcodes>;

// Runs the one task list of a program for one worker, and times each task.
class TimingExecutor final : public program::Executor {
 public:
  TimingExecutor(program::Activations activations, OpTimes* times)
      : activations_(activations), times_(times) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return machine_.load(std::move(programs), limits, read_weight,
                         {activations_, program::Activations::kInt8});
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
      const program::Stage& stage = program.stages[task.stage];
      const size_t first = stage.is_drafters ? program::kNumOpcodes : 0;
      times_->at(first + static_cast<size_t>(stage.opcode())) += us_since(begin);
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
       std::unique_ptr<program::Executor> executor, uint32_t num_threads,
       const model::Drafter* drafter)
      : has_drafter_(drafter != nullptr),
        tokens_(std::move(tokens)),
        position_(position),
        executor_(executor.get()) {
    engine::EngineOptions options{.max_context = position + kMostColumns + 1,
                                  .max_sessions = 1,
                                  .decode_width = kMostColumns};
    if (drafter != nullptr) {
      options.drafter.kind = engine::DrafterKind::kDflash;
      options.dflash = drafter;
    }
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
    const bool drafts = has_drafter_ && program == kDecode;
    run_text_step(executor_, program, tokens_, begin, count, pages_, drafts);
  }

  bool has_drafter_;
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

// The same text without the drafter and with it.
struct Texts {
  Text plain, drafted;
};

Costs measure(Texts* texts, const OpTimes& times) {
  Costs costs;
  for (int repeat = 0; repeat < 600; ++repeat) {
    costs.one.take(texts->plain.decode(1), times);
    costs.eight.take(texts->drafted.decode(kMostColumns), times);
  }
  return costs;
}

void print_line(std::string_view name, double one, double eight) {
  fmt::print("{:<16} {:9.1f} {:9.1f} {:6.2f}\n", name, one, eight, eight / one);
}

void print_by_operation(const Costs& costs) {
  for (size_t i = 0; i < costs.eight.by_op.size(); ++i) {
    if (costs.eight.by_op[i] == 0) continue;
    const std::string_view name = program::kOpcodeNames[i % program::kNumOpcodes];
    const bool is_drafter = i >= program::kNumOpcodes;
    print_line(is_drafter ? fmt::format("draft {}", name) : std::string(name), costs.one.by_op[i],
               costs.eight.by_op[i]);
  }
  print_line("all, no waits", costs.one.step, costs.eight.step);
}

}  // namespace
}  // namespace ultraspeed

int main(int argc, char** argv) {
  using namespace ultraspeed;
  if (argc < 2) {
    fmt::print(stderr, "usage: step_costs MODEL [f32|int8] [POSITION] [THREADS] [DRAFTER]\n");
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

  std::optional<model::Drafter> drafter;
  if (argc > 5) drafter = value_or_exit(model::Drafter::open(argv[5]));
  const auto open_texts = [&](const auto& make_executor, uint32_t threads) {
    const auto open = [&](const model::Drafter* of_text) {
      return Text(model, tokens, position, make_executor(), threads, of_text);
    };
    return Texts{open(nullptr), open(drafter ? &*drafter : nullptr)};
  };

  fmt::print("us of a step     {:>9} {:>9} {:>6}\n", "1 column", "8 columns", "ratio");
  OpTimes times{};
  {
    Texts texts =
        open_texts([&] { return std::make_unique<TimingExecutor>(activations, &times); }, 1);
    print_by_operation(measure(&texts, times));
  }
  Texts texts = open_texts(
      [&] { return cpu::make_cpu_executor({.activations = activations, .int8_drafts = true}); },
      num_threads);
  const Costs costs = measure(&texts, times);
  print_line(fmt::format("step, {} threads", num_threads), costs.one.step, costs.eight.step);
}
