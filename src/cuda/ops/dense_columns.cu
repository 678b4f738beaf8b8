#include "cuda/ops/dense_columns.h"

#include "cuda/ops/context.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ops/rope.cuh"

namespace ultraspeed::cuda {
namespace {

// CTA (column, kind), a warp.
__global__ void __launch_bounds__(kWarpThreads)
    dense_columns_kernel(const __grid_constant__ DenseColumnsLaunch launch) {
  const StepView& step = *launch.step;
  const uint32_t t = blockIdx.x;
  if (t >= step.num_columns) return;
  const DenseColumns kind = launch.kinds[blockIdx.y];
  const uint32_t position = step.columns[t].position, half = kind.rotary_dim / 2;
  for (uint32_t i = threadIdx.x; i < half; i += kWarpThreads) {
    const RopeAngle angle = rope_angle(position, i, kind.rotary_dim, kind.theta);
    kind.rotations[t * half + i] = make_float2(angle.cosine, angle.sine);
  }
  if (threadIdx.x == 0 && kind.cache_rows != nullptr) {
    kind.cache_rows[t] = static_cast<uint32_t>(
        cache_index(step, {kind.ring_positions, launch.kv_page_positions}, t, position));
  }
}

}  // namespace

cudaError_t launch_dense_columns(const DenseColumnsLaunch& launch, cudaStream_t stream) {
  const LaunchSize size = {dim3(launch.width, launch.num_kinds), kWarpThreads, 0};
  return launch_with(dense_columns_kernel, size, {}, stream, launch);
}

}  // namespace ultraspeed::cuda
