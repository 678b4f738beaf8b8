// Rounding of what a stage appended to a cache (round_cache.h), by warps.
#pragma once

#include "cuda/ops/context.cuh"
#include "cuda/ops/round_cache.h"
#include "cuda/ops/rounding.cuh"

namespace ultraspeed::cuda {

// The k head (is_value: v head) `head` that column t appended; writes its size.
inline __device__ float* appended_head(const OpContext& context, const program::QkvProjOperands& op,
                                       uint32_t t, uint32_t head, bool is_value, uint32_t* size) {
  *size = is_value ? op.v_head_dim : op.head_dim;
  if (op.cache == kNoId) {
    const uint64_t row = uint64_t{op.num_kv_heads} * (op.head_dim + op.v_head_dim);
    const uint64_t values = is_value ? uint64_t{op.num_kv_heads} * op.head_dim : 0;
    return context.buffer(op.cache_rows) + t * row + values + uint64_t{head} * *size;
  }
  const Cache& cache = context.cache(op.cache);
  const uint64_t index = context.cache_index(cache, t, context.column(t).position);
  return (is_value ? cache.values : cache.keys) + (index * op.num_kv_heads + head) * *size;
}

// For a warp: k head, or behind them v head, `index` of column t.
inline __device__ void round_appended(const OpContext& context, const program::QkvProjOperands& op,
                                      const CacheRounding& rounding, uint32_t t, uint32_t index) {
  uint32_t size = 0;
  const uint32_t head = index % op.num_kv_heads;
  const bool is_value = index >= op.num_kv_heads;
  float* row = appended_head(context, op, t, head, is_value, &size);
  uint32_t largest = 0;
  for (uint32_t i = threadIdx.x % kWarpThreads; i < size; i += kWarpThreads) {
    largest = max(largest, tensor::magnitude_bits(row[i]));
  }
  const bool is_nan = __reduce_max_sync(~0u, largest) >= tensor::kInfinityBits;
  const bool is_bf16 = rounding.type == program::KvCacheType::kBf16;
  const tensor::KvScales scales =
      is_bf16 ? tensor::KvScales() : rounding.scales.of[context.rank()][head];
  const float scale = is_value ? scales.value : scales.key;
  for (uint32_t i = threadIdx.x % kWarpThreads; i < size; i += kWarpThreads) {
    row[i] = is_nan    ? __uint_as_float(0x7fc00000u)
             : is_bf16 ? round_to_bf16(row[i])
                       : tensor::round_to_e4m3(row[i], scale);
  }
}

}  // namespace ultraspeed::cuda
