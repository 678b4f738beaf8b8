// expert_guesses MODEL: how well the live experts of a layer can be guessed before its router has
// run, so that their weights could be fetched ahead. Two guesses, both of a step that verifies 8
// columns of a text that the model wrote (the golden ones):
//   of the last step                what was live in the layer in the step before
//   of the router before attention  what the router chooses from what its layer's attention reads
// in the order of how many columns want them. Prints the share of the first guesses that are live,
// by how many of the 8 columns were accepted in the step before.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "apps/loaded_model.h"
#include "bench_steps.h"
#include "cpu/executor.h"
#include "cpu/machine.h"
#include "cpu/ops/ops.h"
#include "engine/engine.h"
#include "golden/golden_case.h"
#include "program/route_table.h"

namespace ultraspeed {
namespace {

constexpr uint32_t kColumns = 8;

// Experts, those that most columns want first; ties to the lower id.
using Experts = std::vector<uint32_t>;

Experts experts_of(const program::RouteTable& table) {
  std::vector<std::pair<uint32_t, uint32_t>> by_columns;  // columns, expert
  for (uint32_t slot = 0; slot < *table.num_slots; ++slot) {
    by_columns.emplace_back(table.pair_begin[slot + 1] - table.pair_begin[slot],
                            table.expert[slot]);
  }
  std::ranges::stable_sort(by_columns, std::greater(), &std::pair<uint32_t, uint32_t>::first);
  Experts experts;
  for (const auto& [columns, expert] : by_columns) experts.push_back(expert);
  return experts;
}

// Of a layer in a step.
struct LayerRoute {
  Experts live, early;
};
using StepRoutes = std::vector<LayerRoute>;

// Runs the one task list of a program for one worker. Before a router's tasks it runs them, and
// Route, with the residual that the router's input was added to, and then again as they are.
class RoutingExecutor final : public program::Executor {
 public:
  explicit RoutingExecutor(StepRoutes* routes) : routes_(routes) {}

  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight) override {
    return machine_.load(std::move(programs), limits, read_weight, program::Activations::kF32);
  }

  Status run(uint32_t index, const program::StepInput& input,
             program::StepOutput* output) override {
    const program::Program& program = machine_.programs()[index];
    output->columns.assign(input.columns.size(), {});
    scratch_.begin_step();
    routes_->clear();
    std::vector<const program::Task*> linear;  // since the last other operation
    for (const program::Task& task : program.lists.at(0)) {
      const cpu::OpContext context(&machine_, program, 0, task, input, output, &scratch_);
      const auto& operands = program.stages[task.stage].operands;
      if (const auto* reduce = std::get_if<program::ReduceOperands>(&operands)) {
        const float* residual = context.buffer(reduce->residual);
        residual_.assign(residual, residual + input.columns.size() * program.hidden_size);
      }
      if (const auto* route = std::get_if<program::RouteOperands>(&operands)) {
        US_TRY(run_route(program, input, output, linear, task, *route));
      } else {
        US_TRY(run_all(context));
      }
      const bool is_linear = std::holds_alternative<program::LinearOperands>(operands);
      if (!is_linear) linear.clear();
      if (is_linear) linear.push_back(&task);
    }
    return {};
  }

  Status copy_cache(const program::CacheCopy&) override { return {}; }

 private:
  static Status run_all(const cpu::OpContext& context) {
    const uint32_t units = cpu::unit_count(context);
    for (uint32_t unit = 0; unit < units; ++unit) US_TRY(cpu::run_task(context, unit));
    return {};
  }

  Status run_route(const program::Program& program, const program::StepInput& input,
                   program::StepOutput* output, const std::vector<const program::Task*>& router,
                   const program::Task& task, const program::RouteOperands& op) {
    const auto context_of = [&](const program::Task& of) {
      return cpu::OpContext(&machine_, program, 0, of, input, output, &scratch_);
    };
    const auto run_router = [&]() -> Status {
      scratch_.begin_step();  // forgets the rows that it has normalised
      for (const program::Task* of : router) US_TRY(run_all(context_of(*of)));
      return run_all(context_of(task));
    };
    const auto& linear =
        std::get<program::LinearOperands>(program.stages[router.at(0)->stage].operands);
    const cpu::OpContext context = context_of(task);
    const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
    float* rows = context.buffer(linear.input);
    const std::vector<float> before(rows, rows + residual_.size());
    std::ranges::copy(residual_, rows);
    US_TRY(run_router());
    LayerRoute route;
    route.early = experts_of(table);
    std::ranges::copy(before, rows);
    US_TRY(run_router());
    route.live = experts_of(table);
    routes_->push_back(std::move(route));
    return {};
  }

  cpu::Machine machine_;
  cpu::Scratch scratch_;
  std::vector<float> residual_;
  StepRoutes* routes_;
};

// How many of the first guesses, by their number, are live.
struct Hits {
  std::map<uint32_t, std::pair<uint64_t, uint64_t>> by_count;  // live, of guesses

  void take(const Experts& guess, const Experts& live) {
    for (const uint32_t count : {4u, 8u, 16u}) {
      auto& [hits, guesses] = by_count[count];
      for (uint32_t i = 0; i < std::min<size_t>(count, guess.size()); ++i, ++guesses) {
        hits += std::ranges::find(live, guess[i]) != live.end() ? 1 : 0;
      }
    }
  }
};

struct Totals {
  Hits last, early;
  uint64_t live = 0, layers = 0;
};

void print_row(uint32_t stride, const Totals& totals) {
  fmt::print("{:>8} {:>12.1f}", stride,
             static_cast<double>(totals.live) / static_cast<double>(totals.layers));
  for (const Hits* hits : {&totals.last, &totals.early}) {
    for (const auto& [count, of] : hits->by_count) {
      fmt::print(" {:>9.1f} %",
                 100.0 * static_cast<double>(of.first) / static_cast<double>(of.second));
    }
  }
  fmt::print("\n");
}

// Steps of kColumns columns over the text from `begin` on, each `stride` columns behind the last.
void run_text(program::Executor* executor, const StepRoutes& routes, uint32_t prefill_width,
              const std::vector<int32_t>& tokens, uint32_t begin, uint32_t stride,
              const std::vector<uint32_t>& pages, Totals* totals) {
  const auto step = [&](uint32_t program, uint32_t first, uint32_t count) {
    run_text_step(executor, program, tokens, first, count, pages);
  };
  for (uint32_t at = 0; at < begin; at += prefill_width) {
    step(kPrefill, at, std::min(prefill_width, begin - at));
  }
  StepRoutes last;
  for (uint32_t at = begin; at + kColumns <= tokens.size(); at += stride) {
    step(kDecode, at, kColumns);
    for (size_t layer = 0; layer < last.size(); ++layer) {
      totals->last.take(last[layer].live, routes[layer].live);
      totals->early.take(routes[layer].early, routes[layer].live);
      totals->live += routes[layer].live.size();
      ++totals->layers;
    }
    last = routes;
  }
}

}  // namespace
}  // namespace ultraspeed

int main(int argc, char** argv) {
  using namespace ultraspeed;
  if (argc < 2) {
    fmt::print(stderr, "usage: expert_guesses MODEL\n");
    return 2;
  }
  apps::ModelOptions options;
  options.directory = argv[1];
  const auto model = value_or_exit(apps::LoadedModel::open(options));
  constexpr uint32_t kMaxContext = 1024;
  StepRoutes routes;
  auto owned = std::make_unique<RoutingExecutor>(&routes);
  program::Executor* executor = owned.get();
  const engine::EngineOptions engine_options{
      .max_context = kMaxContext, .max_sessions = 1, .decode_width = kColumns};
  const auto engine =
      value_or_exit(engine::Engine::open(model.config(), model.checkpoint(), std::move(owned),
                                         cpu::cpu_limits(1), engine_options, {}));
  std::vector<uint32_t> pages(kMaxContext / engine->programs()[kDecode].kv_page_positions);
  std::iota(pages.begin(), pages.end(), 0u);
  fmt::print("share of the first 4, 8 and 16 guesses that are live\n{:>8} {:>12} {:>35} {:>35}\n",
             "accepted", "live experts", "of the last step", "of the router before attention");
  for (const uint32_t stride : {1u, 2u, 4u, 6u, 8u}) {
    Totals totals;
    for (const test::GoldenCase& golden : test::tiny_mimo_cases()) {
      std::vector<int32_t> tokens = golden.prompt_ids;
      tokens.insert(tokens.end(), golden.greedy_ids.begin(), golden.greedy_ids.end());
      run_text(executor, routes, engine->programs()[kPrefill].width, tokens,
               static_cast<uint32_t>(golden.prompt_ids.size()), stride, pages, &totals);
    }
    print_row(stride, totals);
  }
}
