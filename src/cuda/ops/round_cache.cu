#include "cuda/ops/round_cache.cuh"

namespace ultraspeed::cuda {
namespace {

using program::QkvProjOperands;

// A warp rounds a head: CTA (column, k and v heads, rank from first_rank on).
__global__ void __launch_bounds__(kWarpThreads)
    round_cache_kernel(const __grid_constant__ StageLaunch launch,
                       const __grid_constant__ QkvProjOperands op,
                       const __grid_constant__ CacheRounding rounding) {
  const uint32_t rank = rounding.first_rank + blockIdx.z;
  const OpContext context(launch.machine, launch.buffer_offsets, *launch.step, launch.tasks[0].task,
                          rank, nullptr);
  if (blockIdx.x >= context.num_columns()) return;
  round_appended(context, op, rounding, blockIdx.x, blockIdx.y);
}

}  // namespace

cudaError_t launch_round_cache(const QkvProjOperands& op, const CacheRounding& rounding,
                               const StageLaunch& launch) {
  const dim3 grid(rounding.width, 2 * op.num_kv_heads, rounding.num_ranks);
  round_cache_kernel<<<grid, kWarpThreads, 0, launch.stream>>>(launch, op, rounding);
  return cudaGetLastError();
}

}  // namespace ultraspeed::cuda
