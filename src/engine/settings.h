// From the engine's options to numbers: what zero stands for, and what does not fit.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "engine/engine.h"
#include "program/executor.h"
#include "program/program.h"

namespace ultraspeed::engine {

// Positions of a session when EngineOptions::max_context is 0 and the model allows as many.
inline constexpr uint32_t kDefaultMaxContext = 8192;

// Every limit of a running engine.
struct EngineSettings {
  uint32_t vocab_size = 0;
  uint32_t max_context = 0;  // positions of one session
  program::CacheLimits cache;
  DrafterOptions drafter = {};
  uint32_t block_size = 1;  // columns of a session in a decode step
  std::string device = {};
};

// Positions of one session: the option, which may exceed model_positions, or what the model has up
// to the default. Errors: kInvalidArgument for a context that no model has.
Result<uint32_t> choose_max_context(const EngineOptions& options, uint32_t model_positions);

// Sequences and KV pages for a program's caches. Errors: kInvalidArgument when one session of
// max_context would not fit.
Result<program::CacheLimits> choose_cache_limits(const EngineOptions& options, uint32_t max_context,
                                                 const program::Program& program);

// `num_mtp_layers` is what a kMtp drafter has, else 0. Errors: kInvalidArgument for a block that no
// decode step holds, a replay beyond the block, a block longer than those that a DFlash drafter was
// trained on or that MTP layers propose, or prefill steps shorter than their look-ahead.
Status check_drafter(const EngineOptions& options, uint32_t num_mtp_layers);

// Positions of one KV page; 0 when the program has no paged cache.
uint32_t page_positions_of(const program::Program& program);

// How many positions a session may have written beyond one whose window its rings still hold.
uint32_t ring_slack_of(const program::Program& program);

// What one rank needs: the programs share weights, caches and the arena of activations.
struct MemoryNeed {
  uint64_t weight_bytes = 0;
  uint64_t cache_bytes = 0;
  uint64_t activation_bytes = 0;

  uint64_t total_bytes() const { return weight_bytes + cache_bytes + activation_bytes; }
};
MemoryNeed memory_need(std::span<const program::Program> programs,
                       const program::CacheLimits& limits, const program::Executor& executor);

// Errors: kOutOfMemory when the device is known to have less; the sentence lists the parts. What to
// do is the caller's to say: users know flags, not EngineOptions.
Status check_memory(const MemoryNeed& need, const program::DeviceLimits& device);

}  // namespace ultraspeed::engine
