// What the operands of all opcodes are made of (operands.h).
#pragma once

#include <cstdint>

#include "program/task.h"

namespace ultraspeed::program {

using BufferId = uint32_t;  // index into Program::buffers
using WeightId = uint32_t;  // index into Program::weights
using CacheId = uint32_t;   // index into Program::caches

// The hidden-axis products (OutProj, ExpertDown) split K into this many chunks that are summed in
// order, so that 1, 2, 4 and 8 ranks give equal bits.
inline constexpr uint32_t kReductionChunks = 8;

// The most residuals of the target that a drafter's features are made from.
inline constexpr uint32_t kMaxTaps = 8;

// The most MTP heads of a program.
inline constexpr uint32_t kMaxMtpHeads = 8;

struct NormRef {
  WeightId weight = kNoId;  // f32 [1, size of the input]; kNoId: no normalisation
  float epsilon = 0;
};

}  // namespace ultraspeed::program
