#include "cuda/ops/round_cache.h"

#include "cuda/ops/context.cuh"
#include "cuda/ops/rounding.cuh"

namespace ultraspeed::cuda {
namespace {

using program::KvCacheType;
using program::QkvProjOperands;

// The k head (is_value: v head) `head` that column t appended; writes its size.
__device__ float* appended_head(const OpContext& context, const QkvProjOperands& op, uint32_t t,
                                uint32_t head, bool is_value, uint32_t* size) {
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

// A warp rounds a head: CTA (column, k and v heads, rank from first_rank on).
__global__ void __launch_bounds__(kWarpThreads)
    round_cache_kernel(const __grid_constant__ StageLaunch launch,
                       const __grid_constant__ QkvProjOperands op,
                       const __grid_constant__ CacheRounding rounding) {
  const uint32_t rank = rounding.first_rank + blockIdx.z;
  const OpContext context(launch.machine, launch.buffer_offsets, *launch.step, launch.tasks[0].task,
                          rank, nullptr);
  const uint32_t t = blockIdx.x;
  if (t >= context.num_columns()) return;
  uint32_t size = 0;
  const uint32_t head = blockIdx.y % op.num_kv_heads;
  const bool is_value = blockIdx.y >= op.num_kv_heads;
  float* row = appended_head(context, op, t, head, is_value, &size);
  uint32_t largest = 0;
  for (uint32_t i = threadIdx.x; i < size; i += kWarpThreads) {
    largest = max(largest, tensor::magnitude_bits(row[i]));
  }
  const bool is_nan = __reduce_max_sync(~0u, largest) >= tensor::kInfinityBits;
  const bool is_bf16 = rounding.type == KvCacheType::kBf16;
  const tensor::KvScales scales = is_bf16 ? tensor::KvScales() : rounding.scales.of[rank][head];
  const float scale = is_value ? scales.value : scales.key;
  for (uint32_t i = threadIdx.x; i < size; i += kWarpThreads) {
    row[i] = is_nan    ? __uint_as_float(0x7fc00000u)
             : is_bf16 ? round_to_bf16(row[i])
                       : tensor::round_to_e4m3(row[i], scale);
  }
}

}  // namespace

cudaError_t launch_round_cache(const QkvProjOperands& op, const CacheRounding& rounding,
                               const StageLaunch& launch) {
  const dim3 grid(rounding.width, 2 * op.num_kv_heads, rounding.num_ranks);
  round_cache_kernel<<<grid, kWarpThreads, 0, launch.stream>>>(launch, op, rounding);
  return cudaGetLastError();
}

}  // namespace ultraspeed::cuda
