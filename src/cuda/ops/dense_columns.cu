#include "cuda/ops/dense_columns.cuh"
#include "cuda/ops/launch.cuh"

namespace ultraspeed::cuda {
namespace {

// CTA (column, kind), a warp.
__global__ void __launch_bounds__(kWarpThreads)
    dense_columns_kernel(const __grid_constant__ DenseColumnsLaunch launch) {
  make_dense_columns(launch, blockIdx.x, blockIdx.y);
}

}  // namespace

cudaError_t launch_dense_columns(const DenseColumnsLaunch& launch, cudaStream_t stream) {
  const LaunchSize size = {dim3(launch.width, launch.num_kinds), kWarpThreads, 0};
  return launch_with(dense_columns_kernel, size, {}, stream, launch);
}

}  // namespace ultraspeed::cuda
