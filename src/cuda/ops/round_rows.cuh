// Rounding of a row (round_rows.h), by the first kTaskThreads threads of a CTA.
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/round_rows.h"
#include "cuda/ops/rounding.cuh"

namespace ultraspeed::cuda {

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
__device__ void store_row(const RoundRows& data, uint32_t row, const Value& value) {
  float* out = data.output + uint64_t{row} * data.size;
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

// Row `index`, normalised in shared memory, where it and the norm's weight are.
__device__ __forceinline__ void round_normed_row(const RoundRows& data, uint32_t index,
                                                 const NormedRow& shared) {
  if (threadIdx.x < kWarpThreads) make_factor(shared, data.size, data.norm_epsilon);
  task_barrier();
  const float factor = *shared.factor;
  store_row(data, index, [&](uint32_t k) { return shared.weight[k] * (shared.row[k] * factor); });
}

}  // namespace ultraspeed::cuda
