#include "cuda/ops/f32_product.h"

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ptx/grid.cuh"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kWarps = 4;  // of a CTA, each with a pair of rows
constexpr uint32_t kBatch = kF32ProductColumns / kDotLanes;

// A lane's elements of kF32ProductColumns columns of a row: so many loads in flight.
struct LaneBatch {
  float values[kBatch];

  __device__ __forceinline__ void load(const float* row) {
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) values[i] = row[i * kDotLanes];
  }
};

// CTA (x, y): pairs of rows 4 x .. 4 x + 3, kSharedColumns columns from y kSharedColumns on. A
// half-warp takes a row; its columns share the loads of weights.
template <uint32_t kSharedColumns>
__global__ void __launch_bounds__(kWarps* kWarpThreads)
    f32_product_kernel(const __grid_constant__ F32Product data) {
  const uint32_t pair = blockIdx.x * kWarps + threadIdx.x / kWarpThreads;
  const uint32_t row = 2 * pair + threadIdx.x % kWarpThreads / kDotLanes;
  const float* weights = data.weights + uint64_t{min(row, data.num_rows - 1)} * data.k + dot_lane();
  LaneBatch next_weights;
  next_weights.load(weights);
  ptx::launch_dependents();
  ptx::wait_for_grids();
  const uint32_t first = blockIdx.y * kSharedColumns;
  const float* inputs[kSharedColumns];
  LaneBatch next_inputs[kSharedColumns];
#pragma unroll
  for (uint32_t c = 0; c < kSharedColumns; ++c) {
    inputs[c] = data.rows + uint64_t{min(first + c, data.width - 1)} * data.k + dot_lane();
    next_inputs[c].load(inputs[c]);
  }
  float sums[kSharedColumns] = {};
  for (uint32_t begin = 0; begin < data.k; begin += kF32ProductColumns) {
    const LaneBatch of_weights = next_weights;
    LaneBatch of_inputs[kSharedColumns];
#pragma unroll
    for (uint32_t c = 0; c < kSharedColumns; ++c) of_inputs[c] = next_inputs[c];
    // The last turn loads what it has again.
    const uint32_t next = min(begin + kF32ProductColumns, data.k - kF32ProductColumns);
    next_weights.load(weights + next);
#pragma unroll
    for (uint32_t c = 0; c < kSharedColumns; ++c) next_inputs[c].load(inputs[c] + next);
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
#pragma unroll
      for (uint32_t c = 0; c < kSharedColumns; ++c) {
        sums[c] = fmaf(of_weights.values[i], of_inputs[c].values[i], sums[c]);
      }
    }
  }
#pragma unroll
  for (uint32_t c = 0; c < kSharedColumns; ++c) {
    const float sum = half_warp_tree(sums[c]);
    const uint32_t t = first + c;
    if (dot_lane() != c || row >= data.num_rows || t >= *data.num_columns) continue;
    if (!is_wanted(data.filter, t)) continue;
    data.output[uint64_t{t} * data.total_rows + data.first_row + row] = sum;
  }
}

template <uint32_t kSharedColumns>
cudaError_t launch_columns(const F32Product& data, cudaStream_t stream) {
  const uint32_t pairs = (data.num_rows + 1) / 2;
  const LaunchSize size = {
      dim3((pairs + kWarps - 1) / kWarps, (data.width + kSharedColumns - 1) / kSharedColumns),
      kWarps * kWarpThreads};
  return launch_with(f32_product_kernel<kSharedColumns>, size, {starts_early()}, stream, data);
}

}  // namespace

cudaError_t launch_f32_product(const F32Product& data, cudaStream_t stream) {
  if (data.k == 0 || data.k % kF32ProductColumns != 0 || data.num_rows == 0 || data.width == 0) {
    return cudaErrorInvalidValue;
  }
  // Few columns: more warps hide more of the loads. Many: weights come from the L2 cache less
  // often.
  return data.width <= 16 ? launch_columns<2>(data, stream) : launch_columns<4>(data, stream);
}

}  // namespace ultraspeed::cuda
