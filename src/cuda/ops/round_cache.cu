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

// A warp rounds a head: CTA (column, k and v heads, rank).
__global__ void __launch_bounds__(kWarpThreads)
    round_cache_kernel(const __grid_constant__ StageLaunch launch,
                       const __grid_constant__ QkvProjOperands op, KvCacheType type) {
  const OpContext context(launch.machine, launch.buffer_offsets, *launch.step, launch.tasks[0].task,
                          blockIdx.z, nullptr);
  const uint32_t t = blockIdx.x;
  if (t >= context.num_columns()) return;
  uint32_t size = 0;
  float* row = appended_head(context, op, t, blockIdx.y % op.num_kv_heads,
                             blockIdx.y >= op.num_kv_heads, &size);
  if (type == KvCacheType::kBf16) {
    for (uint32_t i = threadIdx.x; i < size; i += kWarpThreads) row[i] = round_to_bf16(row[i]);
    return;
  }
  uint32_t largest = 0;
  for (uint32_t i = threadIdx.x; i < size; i += kWarpThreads) {
    largest = max(largest, tensor::magnitude_bits(row[i]));
  }
  const BlockRounding<program::Rounding::kE4m3> rounding(__reduce_max_sync(~0u, largest));
  for (uint32_t i = threadIdx.x; i < size; i += kWarpThreads) row[i] = rounding(row[i]);
}

}  // namespace

cudaError_t launch_round_cache(const QkvProjOperands& op, KvCacheType type, uint32_t width,
                               const StageLaunch& launch) {
  const dim3 grid(width, 2 * op.num_kv_heads, launch.machine.num_ranks);
  round_cache_kernel<<<grid, kWarpThreads, 0, launch.stream>>>(launch, op, type);
  return cudaGetLastError();
}

}  // namespace ultraspeed::cuda
