// A shard's work in pieces that fit into memory: neighbouring rows of a matrix, or bytes of a copy.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "quantize/conversion.h"
#include "quantize/shard_plan.h"

namespace ultraspeed::quantize {

struct Band {
  uint32_t conversion = 0;
  uint64_t begin = 0;  // rows; of a copy, pieces of kCopyBytes
  uint64_t count = 0;
};

inline constexpr uint64_t kCopyBytes = 1 << 18;  // the last piece of a copy may be shorter

// Bands that need at most band_bytes while they are converted or checked; of kFp8 with whole rows
// of blocks. Errors: kOutOfMemory, naming the tensor whose smallest band needs more.
Result<std::vector<Band>> plan_bands(const std::vector<Conversion>& conversions,
                                     const PlannedShard& shard, uint64_t band_bytes);

}  // namespace ultraspeed::quantize
