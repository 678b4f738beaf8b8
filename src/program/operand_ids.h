// What the operands of all opcodes are made of (operands.h).
#pragma once

#include <cstdint>

#include "program/task.h"
#include "tensor/host_device.h"
#include "tensor/weight_format.h"

namespace ultraspeed::program {

using BufferId = uint32_t;  // index into Program::buffers
using WeightId = uint32_t;  // index into Program::weights
using CacheId = uint32_t;   // index into Program::caches

// The hidden-axis products (OutProj, ExpertDown) split K into this many chunks (chunk_begin()) that
// are summed in order, so that 1, 2, 4 and 8 ranks give equal bits.
inline constexpr uint32_t kReductionChunks = 8;

// Whether equal parts of an MXFP4 row would cut blocks of its scales elsewhere than in the middle,
// and there are enough blocks to cut between them instead. In other formats ranks may cut anywhere.
US_HOST_DEVICE constexpr bool cuts_between_blocks(tensor::WeightFormat format, uint32_t columns,
                                                  uint32_t num_chunks) {
  constexpr uint32_t kBlock = tensor::kMxBlockColumns;
  return format == tensor::WeightFormat::kMxfp4 && columns % kBlock == 0 &&
         columns % (kBlock / 2 * num_chunks) != 0 && columns / kBlock >= num_chunks;
}

// The column at which chunk `chunk` of num_chunks begins: of equal parts, or of as equal numbers of
// whole blocks as there are.
US_HOST_DEVICE constexpr uint32_t chunk_begin(tensor::WeightFormat format, uint32_t columns,
                                              uint32_t num_chunks, uint32_t chunk) {
  constexpr uint32_t kBlock = tensor::kMxBlockColumns;
  if (!cuts_between_blocks(format, columns, num_chunks)) return columns / num_chunks * chunk;
  return columns / kBlock * chunk / num_chunks * kBlock;
}

// The most residuals of the target that a drafter's features are made from.
inline constexpr uint32_t kMaxTaps = 8;

// The most MTP heads of a program.
inline constexpr uint32_t kMaxMtpHeads = 8;

struct NormRef {
  WeightId weight = kNoId;  // f32 [1, size of the input]; kNoId: no normalisation
  float epsilon = 0;
};

}  // namespace ultraspeed::program
