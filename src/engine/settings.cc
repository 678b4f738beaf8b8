#include "engine/settings.h"

#include <algorithm>
#include <limits>
#include <variant>

#include "engine/kv_pages.h"
#include "model/config_limits.h"

namespace ultraspeed::engine {

Result<uint32_t> choose_max_context(const EngineOptions& options, uint32_t model_positions) {
  if (options.max_context == 0) return std::min(model_positions, kDefaultMaxContext);
  if (options.max_context == 1 || options.max_context > model::kMaxPositions) {
    return make_error(ErrorCode::kInvalidArgument, "max_context is {}, expected 2 to {}",
                      options.max_context, model::kMaxPositions);
  }
  return options.max_context;
}

namespace {

Status check_mtp_options(const EngineOptions& options, uint32_t num_layers) {
  if (options.block_size > num_layers + 1) {
    return make_error(ErrorCode::kInvalidArgument,
                      "block_size is {}, expected 1 to {}: {} MTP layers propose a token each",
                      options.block_size, num_layers + 1, num_layers);
  }
  if (options.prefill_width != 0 && options.prefill_width < num_layers) {
    return make_error(ErrorCode::kInvalidArgument,
                      "prefill_width is {}, expected at least {}, the MTP layers",
                      options.prefill_width, num_layers);
  }
  return {};
}

}  // namespace

Status check_drafter(const EngineOptions& options, uint32_t num_mtp_layers) {
  const DrafterOptions& drafter = options.drafter;
  if (drafter.kind == DrafterKind::kNone) return {};
  if (options.block_size == 0 || options.block_size > options.decode_width) {
    return make_error(ErrorCode::kInvalidArgument,
                      "block_size is {}, expected 1 to {}, the columns of a decode step",
                      options.block_size, options.decode_width);
  }
  if (options.dflash != nullptr && options.block_size > options.dflash->config().block_size) {
    return make_error(ErrorCode::kInvalidArgument,
                      "block_size is {}, expected 1 to {}, the tokens of a block in {}",
                      options.block_size, options.dflash->config().block_size,
                      options.dflash->config().file);
  }
  if (drafter.kind == DrafterKind::kMtp) return check_mtp_options(options, num_mtp_layers);
  const bool is_possible =
      drafter.tokens_per_cycle >= 1 && drafter.tokens_per_cycle <= options.block_size;
  if (drafter.kind != DrafterKind::kReplay || is_possible) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "replay:{} is impossible, expected 1 to {}, the tokens of a block",
                    drafter.tokens_per_cycle, options.block_size);
}

uint32_t page_positions_of(const program::Program& program) {
  const auto is_paged = [](const auto& cache) { return cache.ring_positions == 0; };
  return std::ranges::any_of(program.caches, is_paged) ? program.kv_page_positions : 0;
}

uint32_t ring_slack_of(const program::Program& program) {
  uint32_t slack = std::numeric_limits<uint32_t>::max();
  for (const program::Stage& stage : program.stages) {
    const auto* attention = std::get_if<program::AttentionOperands>(&stage.operands);
    if (attention == nullptr || attention->window == 0) continue;
    slack = std::min(slack, program.caches[attention->cache].ring_positions - attention->window);
  }
  return slack;
}

Result<program::CacheLimits> choose_cache_limits(const EngineOptions& options, uint32_t max_context,
                                                 const program::Program& program) {
  if (options.max_sessions == 0) {
    return make_error(ErrorCode::kInvalidArgument, "max_sessions is 0, expected at least 1");
  }
  const uint32_t page_positions = page_positions_of(program);
  const uint32_t session_pages = num_pages_for(max_context, page_positions);
  program::CacheLimits limits{.num_sequences = options.max_sessions};
  if (session_pages == 0) return limits;
  const uint64_t num_pages = options.num_kv_pages != 0
                                 ? options.num_kv_pages
                                 : uint64_t{options.max_sessions} * session_pages;
  if (num_pages > std::numeric_limits<uint32_t>::max()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{} sessions of {} positions need {} KV pages, more than can be counted",
                      options.max_sessions, max_context, num_pages);
  }
  if (num_pages < session_pages) {
    return make_error(ErrorCode::kInvalidArgument,
                      "num_kv_pages is {}, but one session of max_context {} needs {} pages of {} "
                      "positions; raise num_kv_pages or lower max_context",
                      num_pages, max_context, session_pages, page_positions);
  }
  limits.num_kv_pages = static_cast<uint32_t>(num_pages);
  return limits;
}

MemoryNeed memory_need(std::span<const program::Program> programs,
                       const program::CacheLimits& limits, const program::Executor& executor) {
  MemoryNeed need;
  if (programs.empty()) return need;
  need.weight_bytes = executor.weight_bytes(programs.front());
  need.cache_bytes = executor.cache_bytes(programs, limits);
  need.activation_bytes = executor.activation_bytes(programs, limits);
  return need;
}

Status check_memory(const MemoryNeed& need, const program::DeviceLimits& device) {
  if (device.memory_bytes == 0 || need.total_bytes() <= device.memory_bytes) return {};
  const auto mib = [](uint64_t bytes) { return (bytes + (1u << 20) - 1) >> 20; };
  return make_error(ErrorCode::kOutOfMemory,
                    "a rank needs {} MiB (weights {}, KV caches {}, activations {}) but {} has {} "
                    "MiB",
                    mib(need.total_bytes()), mib(need.weight_bytes), mib(need.cache_bytes),
                    mib(need.activation_bytes), device.name, device.memory_bytes >> 20);
}

}  // namespace ultraspeed::engine
