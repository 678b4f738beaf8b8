// Reductions over a block's threads. All of them call these functions together.
#pragma once

#include <cstdint>

#include "cuda/ops/dot.cuh"

namespace ultraspeed::cuda {

// The threads' values combined, in an order that is always the same; each thread gets the result.
// shared: [kTaskWarps]; what an earlier call had there has been read when this one writes.
template <class T, class Combine>
__device__ T block_reduce(T value, T* shared, const Combine& combine) {
#pragma unroll
  for (uint32_t width = kWarpThreads / 2; width > 0; width /= 2) {
    value = combine(value, __shfl_xor_sync(kWholeWarp, value, width));
  }
  task_barrier();
  if (threadIdx.x % kWarpThreads == 0) shared[threadIdx.x / kWarpThreads] = value;
  task_barrier();
  value = shared[0];
#pragma unroll
  for (uint32_t warp = 1; warp < kTaskWarps; ++warp) value = combine(value, shared[warp]);
  return value;
}

template <class T>
__device__ T block_min(T value, T* shared) {
  return block_reduce(value, shared, [](T a, T b) { return b < a ? b : a; });
}

}  // namespace ultraspeed::cuda
