// The sums of docs/numerics.md section 2: 16 lanes, which half a warp holds, then a tree. A sum of
// two numbers has the same bits in either order, so each lane of the tree ends with the bits of the
// CPU's. All threads of a warp call these functions together.
#pragma once

#include <cstdint>

#include "cuda/ops/context.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/shared_load.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kDotLanes = 16;
inline constexpr uint32_t kHalfWarps = kTaskThreads / kDotLanes;
inline constexpr uint32_t kWholeWarp = 0xffffffffu;

inline __device__ uint32_t dot_lane() {
  return threadIdx.x % kDotLanes;
}
inline __device__ uint32_t half_warp() {
  return threadIdx.x / kDotLanes;
}

// The sum of a half-warp's lanes, on each of them.
inline __device__ float half_warp_tree(float lane_sum) {
#pragma unroll
  for (uint32_t width = kDotLanes / 2; width > 0; width /= 2) {
    lane_sum += __shfl_xor_sync(kWholeWarp, lane_sum, width);
  }
  return lane_sum;
}

// One level of half_warp_trees(): each lane keeps half of its sums and adds its partner's.
template <uint32_t kWidth>
__device__ void add_partners(float (&values)[kDotLanes]) {
  const bool is_upper = (dot_lane() & kWidth) != 0;
#pragma unroll
  for (uint32_t i = 0; i < kWidth; ++i) {
    const float mine = is_upper ? values[i + kWidth] : values[i];
    const float others = is_upper ? values[i] : values[i + kWidth];
    values[i] = mine + __shfl_xor_sync(kWholeWarp, others, kWidth);
  }
}

// Sixteen such sums at once: lane j gets the one of values[j].
inline __device__ float half_warp_trees(float (&values)[kDotLanes]) {
  add_partners<8>(values);
  add_partners<4>(values);
  add_partners<2>(values);
  add_partners<1>(values);
  return values[0];
}

// sum_i a[i] * b[i] over `count` elements; a half-warp's lanes give the same arguments.
inline __device__ float dot(const float* a, const float* b, uint32_t count) {
  float sum = 0;
  for (uint32_t i = dot_lane(); i < count; i += kDotLanes) sum = fmaf(a[i], b[i], sum);
  return half_warp_tree(sum);
}

// The same of a row in shared memory with itself, by the two halves of a warp alike. Additions wait
// for each other; what they need is read as soon as its registers are free, in kSquareGroups
// groups, for a wait for one read is a wait for those beside it; behind whole batches one by one.
inline constexpr uint32_t kSquareBatch = 32 * kDotLanes;
inline __device__ float sum_of_squares(const float* row, uint32_t size) {
  constexpr uint32_t kSquareGroups = 4, kOfGroup = kSquareBatch / kDotLanes / kSquareGroups;
  const uint32_t from = ptx::smem_address(row + dot_lane());
  float values[kSquareGroups][kOfGroup] = {};  // zeros: the sum stays 0
  float sum = 0;
  const uint32_t whole = size / kSquareBatch * kSquareBatch;
  for (uint32_t begin = 0; begin < whole; begin += kSquareBatch) {
#pragma unroll
    for (uint32_t g = 0; g < kSquareGroups; ++g) {
#pragma unroll
      for (const float value : values[g]) sum = fmaf(value, value, sum);
#pragma unroll
      for (uint32_t j = 0; j < kOfGroup; ++j) {
        const uint32_t k = begin + (g * kOfGroup + j) * kDotLanes;
        values[g][j] = ptx::load_shared_here(from + k * static_cast<uint32_t>(sizeof(float)));
      }
    }
  }
#pragma unroll
  for (const auto& group : values) {
#pragma unroll
    for (const float value : group) sum = fmaf(value, value, sum);
  }
  for (uint32_t k = whole + dot_lane(); k < size; k += kDotLanes) sum = fmaf(row[k], row[k], sum);
  return half_warp_tree(sum);
}

}  // namespace ultraspeed::cuda
