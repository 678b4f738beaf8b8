// Which pair of a route table (program/route_table.h) a column has at a slot.
#pragma once

#include <cstdint>

#include "program/route_table.h"
#include "program/task.h"

namespace ultraspeed::cuda {

// The pair of a slot and a column, kNoId if it is not routed, and its weight.
struct RoutedPair {
  uint32_t pair = program::kNoId;
  float weight = 0;
};

// For a whole warp.
__device__ inline RoutedPair find_pair(const program::RouteTable& route, uint32_t slot,
                                       uint32_t column) {
  const uint32_t end = route.pair_begin[slot + 1];
  for (uint32_t begin = route.pair_begin[slot]; begin < end; begin += 32) {
    const uint32_t pair = begin + threadIdx.x % 32;
    const bool is_it = pair < end && route.pair_column[pair] == column;
    const float weight = pair < end ? route.pair_weight[pair] : 0.0F;
    const uint32_t found = __ballot_sync(~0u, is_it);
    if (found == 0) continue;
    const int lane = __ffs(static_cast<int>(found)) - 1;
    return {begin + static_cast<uint32_t>(lane), __shfl_sync(~0u, weight, lane)};
  }
  return {};
}

}  // namespace ultraspeed::cuda
