// Buffers that a mode needs beside the program's. They lie behind the program's arena on each rank,
// with ids behind its buffers'.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "cuda/cache_form.h"
#include "cuda/weight_form.h"
#include "program/arithmetic.h"
#include "program/program.h"

namespace ultraspeed::cuda {

// Buffer i has id program.buffers.size() + i. The first kMaxTaps are rounded inputs of products:
// number 0 any stage's input, the others the further inputs of a Linear.
enum ScratchBuffer : uint32_t {
  kInputScratch = 0,
  // Of attention to tiles (flash_stages.h).
  kKvRowScratch = program::kMaxTaps,  // as QkvProj writes cache_rows
  kQueryScratch,                      // operands (tile/query_store.cuh)
  kQueryScaleScratch,
  kPartialSumScratch,  // FlashPartials
  kPartialStateScratch,
  // Of dense products (dense_stages.h): sums of heads, and inputs as one row.
  kHeadSumScratch,
  kJoinedScratch,
  kExpertScratch,  // of experts in steps of many columns (prefill_stages.h)
  kScratchBuffers,
};

// Each begins at a multiple of so many floats.
inline constexpr uint64_t kScratchAlignment = 64;

constexpr uint64_t align_scratch(uint64_t floats) {
  return (floats + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
}

using ScratchFloats = std::array<uint64_t, kScratchBuffers>;

// How weights and caches lie.
struct MemoryForms {
  std::span<const WeightForm> weights;  // [WeightId]
  std::span<const CacheForm> caches;    // [CacheId]
};

// Floats of each, aligned. num_sequences: at most so many in a step.
ScratchFloats scratch_floats(const program::Program& program, program::Activations activations,
                             const MemoryForms& forms, uint32_t num_sequences);

inline program::BufferId scratch_id(const program::Program& program, uint32_t i) {
  return static_cast<program::BufferId>(program.buffers.size()) + i;
}

}  // namespace ultraspeed::cuda
