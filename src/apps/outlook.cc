#include "apps/outlook.h"

#include <fmt/format.h>

#include <span>
#include <utility>

#include "base/progress.h"
#include "engine/settings.h"
#include "plan/plan.h"

namespace ultraspeed::apps {
namespace {

constexpr uint32_t kWidth = 8;  // columns of a decode step, on any device

std::string size(uint64_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

// Weights of BF16 and the projections of its context; its caches are small beside them.
uint64_t drafter_bytes(const ModelFolder& folder) {
  return folder.drafter ? 2 * model::count_parameters(*folder.drafter) : 0;
}

// What all ranks take, or why there is no program.
Result<engine::MemoryNeed> memory_need(const ModelFolder& folder, const ModelOptions& options,
                                       const ChosenExecutor& chosen, uint32_t context) {
  const plan::PlanOptions plan_options{.name = "decode",
                                       .width = kWidth,
                                       .num_ranks = options.executor.ranks,
                                       .logits = plan::LogitsPlace::kShares,
                                       .max_context = context};
  const auto shape_of = [&folder](const model::WeightSource& source) {
    return folder.shape(source);
  };
  US_ASSIGN(const plan::Plan plan,
            plan::make_plan(folder.config, shape_of, chosen.limits, plan_options));
  const engine::EngineOptions one_session{.max_context = context, .max_sessions = 1};
  US_ASSIGN(const program::CacheLimits limits,
            engine::choose_cache_limits(one_session, context, plan.program));
  auto need = engine::memory_need(std::span(&plan.program, 1), limits, *chosen.executor);
  need.weight_bytes += drafter_bytes(folder) / options.executor.ranks;
  return need;
}

std::string verdict(const ModelFolder& folder, const ModelOptions& options,
                    const ChosenExecutor& chosen) {
  const auto context = engine::choose_max_context({.max_context = options.context},
                                                  folder.config.max_position_embeddings);
  if (!context) return "no: " + context.error().message;
  const auto need = memory_need(folder, options, chosen, *context);
  if (!need) return "no: " + need.error().message;
  const uint32_t ranks = options.executor.ranks;
  const std::string parts =
      fmt::format("{} (weights {}, KV cache of {} tokens {}, activations {})",
                  size(need->total_bytes() * ranks), size(need->weight_bytes * ranks), *context,
                  size(need->cache_bytes * ranks), size(need->activation_bytes * ranks));
  const uint64_t memory =
      chosen.limits.memory_bytes * (chosen.limits.name == kProcessor ? 1 : ranks);
  const std::string modes = mode_text(chosen.modes);
  if (need->total_bytes() * ranks > memory) {
    return fmt::format("no: it needs {}, of {}; with {}", parts, size(memory), modes);
  }
  return fmt::format("yes, in {} of {}; with {}", parts, size(memory), modes);
}

}  // namespace

std::string outlook(const ModelFolder& folder, const ModelOptions& options) {
  const auto line = [](std::string_view name, std::string_view text) {
    return fmt::format("{:<16}{}\n", name, text);
  };
  const std::string condition = folder.checkpoint ? "" : "when its weights are here: ";
  const uint64_t bytes =
      folder.checkpoint ? folder.checkpoint->contents().backbone.bytes : UINT64_MAX;
  std::string text;
  for (const auto& [kind, name] :
       {std::pair(ExecutorKind::kCpu, "on processor"), std::pair(ExecutorKind::kGraph, "on GPU")}) {
    ExecutorOptions executor = options.executor;
    executor.kind = kind;
    const auto chosen = choose_executor(executor, bytes);
    if (chosen) text += line(name, condition + verdict(folder, options, *chosen));
  }
  return text;
}

}  // namespace ultraspeed::apps
