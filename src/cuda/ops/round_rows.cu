#include "cuda/ops/round_rows.h"

#include "cuda/ops/columns.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ops/rounding.cuh"
#include "cuda/ptx/bulk.cuh"
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

template <class Value>
__device__ void store_row(const RoundRows& data, const Value& value) {
  float* out = data.output + uint64_t{blockIdx.x} * data.size;
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
#pragma unroll 8
      for (uint32_t k = threadIdx.x; k < data.size; k += kTaskThreads) store(k, value(k));
      return;
  }
}

// Row blockIdx.x of rows in any form.
__global__ void __launch_bounds__(kTaskThreads)
    round_rows_kernel(const __grid_constant__ RoundRows data) {
  const float* x = data.rows + uint64_t{blockIdx.x} * data.size;
  ptx::launch_dependents();
  ptx::wait_for_grids();
  float factor = 1;
  if (data.norm_weight != nullptr) {
    factor = rms_factor(dot(x, x, data.size), data.size, data.norm_epsilon);
  }
  store_row(data, [&](uint32_t k) {
    return data.norm_weight == nullptr ? x[k] : data.norm_weight[k] * (x[k] * factor);
  });
}

// The same, normalised in shared memory, in which the norm's weight waits for the row.
__global__ void __launch_bounds__(kTaskThreads)
    round_normed_rows_kernel(const __grid_constant__ RoundRows data) {
  extern __shared__ __align__(128) float row[];
  __shared__ uint64_t full[2];  // of the weight, of the row
  __shared__ float shared_factor;
  const float* weight = row + data.size;
  const uint32_t bytes = data.size * static_cast<uint32_t>(sizeof(float));
  if (threadIdx.x == 0) {
    for (uint64_t& barrier : full) ptx::mbarrier_init(&barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect_tx(&full[0], bytes);
    ptx::bulk_copy(row + data.size, data.norm_weight, bytes, &full[0]);
  }
  __syncwarp();
  ptx::launch_dependents();
  ptx::wait_for_grids();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(&full[1], bytes);
    ptx::bulk_copy(row, data.rows + uint64_t{blockIdx.x} * data.size, bytes, &full[1]);
  }
  __syncthreads();  // the barriers are made
  ptx::mbarrier_wait(&full[1], 0);
  if (threadIdx.x < kWarpThreads) {
    const float squares = sum_of_squares(row, data.size);
    if (threadIdx.x == 0) shared_factor = rms_factor(squares, data.size, data.norm_epsilon);
  }
  ptx::mbarrier_wait(&full[0], 0);
  __syncthreads();
  const float factor = shared_factor;
  store_row(data, [&](uint32_t k) { return weight[k] * (row[k] * factor); });
}

bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

}  // namespace

cudaError_t launch_round_rows(const RoundRows& data, cudaStream_t stream) {
  if (data.num_rows == 0) return cudaSuccess;
  LaunchSize size = {dim3(data.num_rows), kTaskThreads};
  const uint64_t bytes = uint64_t{2} * data.size * sizeof(float);
  const bool in_shared = data.norm_weight != nullptr && data.size % kSquareBatch == 0 &&
                         bytes <= kStreamSharedBytes && is_aligned(data.rows) &&
                         is_aligned(data.norm_weight);
  if (!in_shared) return launch_with(round_rows_kernel, size, {starts_early()}, stream, data);
  size.shared_bytes = static_cast<uint32_t>(bytes);
  return launch_with(round_normed_rows_kernel, size, {starts_early()}, stream, data);
}

}  // namespace ultraspeed::cuda
