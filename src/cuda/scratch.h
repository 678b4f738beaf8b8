// Buffers that a mode needs beside the program's: rounded inputs of products. They lie behind the
// program's arena on each rank, with ids behind its buffers'.
#pragma once

#include <array>
#include <cstdint>

#include "program/arithmetic.h"
#include "program/program.h"

namespace ultraspeed::cuda {

// Buffer i has id program.buffers.size() + i. The first has any stage's input, the others the
// further inputs of a Linear.
inline constexpr uint32_t kScratchBuffers = program::kMaxTaps;

// Floats of each.
std::array<uint64_t, kScratchBuffers> scratch_floats(const program::Program& program,
                                                     program::Activations activations);

}  // namespace ultraspeed::cuda
