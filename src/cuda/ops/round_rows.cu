#include "cuda/ops/launch.cuh"
#include "cuda/ops/round_rows.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/grid.cuh"

namespace ultraspeed::cuda {
namespace {

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
  store_row(data, blockIdx.x, [&](uint32_t k) {
    return data.norm_weight == nullptr ? x[k] : data.norm_weight[k] * (x[k] * factor);
  });
}

// The same, normalised in shared memory, in which the norm's weight waits for the row.
__global__ void __launch_bounds__(kTaskThreads)
    round_normed_rows_kernel(const __grid_constant__ RoundRows data) {
  extern __shared__ __align__(128) float row[];
  __shared__ uint64_t full[2];  // of the weight, of the row
  __shared__ float shared_factor;
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
  ptx::mbarrier_wait(&full[0], 0);
  round_normed_row(data, blockIdx.x, {row, row + data.size, &shared_factor});
}

bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

}  // namespace

cudaError_t launch_round_rows(const RoundRows& data, cudaStream_t stream) {
  if (data.num_rows == 0) return cudaSuccess;
  LaunchSize size = {dim3(data.num_rows), kTaskThreads};
  const uint64_t bytes = uint64_t{2} * data.size * sizeof(float);
  const bool in_shared = data.norm_weight != nullptr && data.size % 4 == 0 &&
                         bytes <= kStreamSharedBytes && is_aligned(data.rows) &&
                         is_aligned(data.norm_weight);
  if (!in_shared) return launch_with(round_rows_kernel, size, {starts_early()}, stream, data);
  size.shared_bytes = static_cast<uint32_t>(bytes);
  return launch_with(round_normed_rows_kernel, size, {starts_early()}, stream, data);
}

}  // namespace ultraspeed::cuda
