#include "cuda/ops/round_rows.h"

#include "cuda/ops/columns.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ops/rounding.cuh"
#include "cuda/ptx/grid.cuh"

namespace ultraspeed::cuda {
namespace {

using program::Rounding;

// A warp's block of at most kBlock values; value(k) and store(k, rounded) for k below `count`.
template <Rounding kRounding, uint32_t kBlock, class Value, class Store>
__device__ void round_block(uint32_t count, const Value& value, const Store& store) {
  constexpr uint32_t kOfLane = kBlock / kWarpThreads;
  const uint32_t lane = threadIdx.x % kWarpThreads;
  float values[kOfLane];
  uint32_t largest = 0;
#pragma unroll
  for (uint32_t i = 0; i < kOfLane; ++i) {
    const uint32_t k = i * kWarpThreads + lane;
    values[i] = k < count ? value(k) : 0;
    largest = max(largest, tensor::magnitude_bits(values[i]));
  }
  largest = __reduce_max_sync(~0u, largest);
  const BlockRounding<kRounding> rounding(largest);
#pragma unroll
  for (uint32_t i = 0; i < kOfLane; ++i) {
    const uint32_t k = i * kWarpThreads + lane;
    if (k < count) store(k, rounding(values[i]));
  }
}

template <Rounding kRounding, uint32_t kBlock, class Value, class Store>
__device__ void round_blocks(uint32_t size, const Value& value, const Store& store) {
  for (uint32_t begin = threadIdx.x / kWarpThreads * kBlock; begin < size;
       begin += kTaskWarps * kBlock) {
    round_block<kRounding, kBlock>(
        min(kBlock, size - begin), [&](uint32_t k) { return value(begin + k); },
        [&](uint32_t k, float rounded) { store(begin + k, rounded); });
  }
}

// Row blockIdx.x. kInShared: its sum of squares is taken of a copy in shared memory, whose loads do
// not take long one after the other.
template <bool kInShared>
__global__ void __launch_bounds__(kTaskThreads)
    round_rows_kernel(const __grid_constant__ RoundRows data) {
  extern __shared__ float copy[];
  const float* x = data.rows + uint64_t{blockIdx.x} * data.size;
  float* out = data.output + uint64_t{blockIdx.x} * data.size;
  ptx::launch_dependents();
  ptx::wait_for_grids();
  float factor = 1;
  if constexpr (kInShared) {
    for (uint32_t k = threadIdx.x; k < data.size; k += kTaskThreads) copy[k] = x[k];
    __syncthreads();
    factor = rms_factor(sum_of_squares(copy, data.size), data.size, data.norm_epsilon);
    x = copy;
  } else if (data.norm_weight != nullptr) {
    factor = rms_factor(dot(x, x, data.size), data.size, data.norm_epsilon);
  }
  const auto value = [&](uint32_t k) {
    return data.norm_weight == nullptr ? x[k] : data.norm_weight[k] * (x[k] * factor);
  };
  const auto store = [&](uint32_t k, float rounded) { out[k] = rounded; };
  switch (data.rounding) {
    case Rounding::kE4m3:
      return round_blocks<Rounding::kE4m3, tensor::kE4m3BlockColumns>(data.size, value, store);
    case Rounding::kF16:
      return round_blocks<Rounding::kF16, tensor::kF16BlockColumns>(data.size, value, store);
    case Rounding::kBf16Pair:
      for (uint32_t k = threadIdx.x; k < data.size; k += kTaskThreads) {
        const float high = round_to_bf16(value(k));
        store(k, high + round_to_bf16(value(k) - high));
      }
      return;
    case Rounding::kNone:
      for (uint32_t k = threadIdx.x; k < data.size; k += kTaskThreads) store(k, value(k));
      return;
  }
}

}  // namespace

cudaError_t launch_round_rows(const RoundRows& data, cudaStream_t stream) {
  if (data.num_rows == 0) return cudaSuccess;
  LaunchSize size = {dim3(data.num_rows), kTaskThreads};
  const bool in_shared = data.norm_weight != nullptr && data.size % kSquareBatch == 0 &&
                         data.size * sizeof(float) <= kStreamSharedBytes;
  if (!in_shared)
    return launch_with(round_rows_kernel<false>, size, {starts_early()}, stream, data);
  size.shared_bytes = data.size * static_cast<uint32_t>(sizeof(float));
  return launch_with(round_rows_kernel<true>, size, {starts_early()}, stream, data);
}

}  // namespace ultraspeed::cuda
