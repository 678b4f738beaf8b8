#include "cuda/ops/joined_rows.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ptx/grid.cuh"

namespace ultraspeed::cuda {
namespace {

// A CTA an input of a column.
__global__ void __launch_bounds__(kTaskThreads)
    joined_rows_kernel(const __grid_constant__ JoinedRows data) {
  ptx::launch_dependents();
  ptx::wait_for_grids();
  join_rows(data, blockIdx.x);
}

// A half-warp a head of a column.
__global__ void __launch_bounds__(kTaskThreads)
    head_rows_kernel(const __grid_constant__ HeadRows data) {
  ptx::launch_dependents();
  ptx::wait_for_grids();
  HeadRow(data, blockIdx.x * kHalfWarps + half_warp()).run();
}

}  // namespace

cudaError_t launch_joined_rows(const JoinedRows& data, cudaStream_t stream) {
  if (data.size % 4 != 0 || data.num_inputs == 0 || data.num_inputs > program::kMaxTaps) {
    return cudaErrorInvalidValue;
  }
  const LaunchSize size = {dim3(data.width * data.num_inputs), kTaskThreads};
  return launch_with(joined_rows_kernel, size, {starts_early()}, stream, data);
}

cudaError_t launch_head_rows(const HeadRows& data, cudaStream_t stream) {
  const uint32_t heads = data.width * data.num_heads();
  const LaunchSize size = {dim3((heads + kHalfWarps - 1) / kHalfWarps), kTaskThreads};
  return launch_with(head_rows_kernel, size, {starts_early()}, stream, data);
}

}  // namespace ultraspeed::cuda
