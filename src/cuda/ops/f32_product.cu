#include "cuda/ops/f32_product.h"

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/copy_async.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/tile/page_ring.cuh"

namespace ultraspeed::cuda {
namespace {

// Bulk copies of 1 KB come no faster than one in 31 ns (H100): one warp makes those of the weights,
// whole warps copy the inputs, for which all wait, 16 bytes a thread.
constexpr uint32_t kInputWarps = 4;
constexpr uint32_t kInputThreads = kInputWarps * kWarpThreads;
constexpr uint32_t kPieceBytes = kF32ProductColumns * sizeof(float);
constexpr uint32_t kPieceThreads = kPieceBytes / 16;

// A CTA's tile of the product and its shared memory: stages of kF32ProductColumns columns of K, of
// each of its rows of weights and then of inputs. The two halves of a warp take neighbouring rows
// of weights, whose distance in a stage has them read different banks.
template <uint32_t kRowsOfThread, uint32_t kColumnsOfThread, uint32_t kRowWarps,
          uint32_t kColumnWarps>
struct ProductTile {
  static constexpr uint32_t kSumRows = kRowsOfThread, kSumColumns = kColumnsOfThread;
  static constexpr uint32_t kWarps = kRowWarps * kColumnWarps;  // and behind them those that load
  static constexpr uint32_t kThreads = (kWarps + 1 + kInputWarps) * kWarpThreads;
  static constexpr uint32_t kRowTiles = 2 * kRowWarps;
  static constexpr uint32_t kRows = kRowTiles * kRowsOfThread;
  static constexpr uint32_t kColumns = kColumnWarps * kColumnsOfThread;
  static constexpr uint32_t kStride = kF32ProductColumns + kDotLanes;
  static constexpr uint32_t kStageFloats = (kRows + kColumns) * kStride;
  static constexpr uint32_t kStages = kStreamSharedBytes / (kStageFloats * sizeof(float));
  static constexpr uint32_t kBytes = kStages * kStageFloats * sizeof(float);
};

// Elements of a thread's rows and columns for the next steps of its lane's sums. Each is loaded as
// soon as the one before in its place has been used.
template <class Tile>
class Operands {
 public:
  static constexpr uint32_t kSteps = Tile::kSumRows + Tile::kSumColumns > 5 ? 4 : 8;

  __device__ __forceinline__ void multiply(uint32_t i,
                                           float (&sums)[Tile::kSumRows][Tile::kSumColumns]) const {
#pragma unroll
    for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
#pragma unroll
      for (uint32_t c = 0; c < Tile::kSumColumns; ++c) {
        sums[r][c] = fmaf(weights_[i][r], inputs_[i][c], sums[r][c]);
      }
    }
  }

  __device__ __forceinline__ void load(uint32_t i, const float* row, const float* input) {
#pragma unroll
    for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
      weights_[i][r] = row[r * Tile::kRowTiles * Tile::kStride];
    }
#pragma unroll
    for (uint32_t c = 0; c < Tile::kSumColumns; ++c) inputs_[i][c] = input[c * Tile::kStride];
  }

 private:
  float weights_[kSteps][Tile::kSumRows] = {};
  float inputs_[kSteps][Tile::kSumColumns] = {};
};

// For the stages of a ring, one behind the other: calls load(chunk, its place in shared memory, its
// full barrier) as soon as the stage is free. Partner: leave_stage().
template <class Tile, class Load>
__device__ __forceinline__ void fill_stages(uint32_t k, float* shared,
                                            RingBarriers<Tile::kStages>& ring, const Load& load) {
  RingPosition<Tile::kStages> at;
  for (uint32_t chunk = 0; chunk * kF32ProductColumns < k; ++chunk, at.advance()) {
    ptx::mbarrier_wait(&ring.empty[at.stage], at.parity ^ 1);
    load(chunk, shared + at.stage * Tile::kStageFloats, &ring.full[at.stage]);
  }
}

// For one warp. Weights are there before the grids ahead end.
template <class Tile>
__device__ void load_weights(const F32Product& data, float* shared,
                             RingBarriers<Tile::kStages>& ring) {
  const uint32_t lane = threadIdx.x % kWarpThreads;
  static_assert(Tile::kRows <= kWarpThreads);
  const uint32_t row = min(blockIdx.x * Tile::kRows + lane, data.num_rows - 1);
  const float* from = data.weights + uint64_t{row} * data.k;
  fill_stages<Tile>(data.k, shared, ring, [&](uint32_t chunk, float* stage, uint64_t* full) {
    if (lane == 0) ptx::mbarrier_arrive_expect_tx(full, Tile::kRows * kPieceBytes);
    __syncwarp();
    if (lane >= Tile::kRows) return;
    ptx::bulk_copy(stage + lane * Tile::kStride, from + chunk * kF32ProductColumns, kPieceBytes,
                   full);
  });
}

// For kInputWarps warps.
template <class Tile>
__device__ void load_inputs(const F32Product& data, float* shared,
                            RingBarriers<Tile::kStages>& ring) {
  constexpr uint32_t kRowsAtOnce = kInputThreads / kPieceThreads;
  static_assert(Tile::kColumns % kRowsAtOnce == 0);
  const uint32_t thread = threadIdx.x - (Tile::kWarps + 1) * kWarpThreads;
  const uint32_t first = thread / kPieceThreads, k = thread % kPieceThreads * 4;
  const float* rows = data.rows + k;
  ptx::wait_for_grids();
  fill_stages<Tile>(data.k, shared, ring, [&](uint32_t chunk, float* stage, uint64_t* full) {
#pragma unroll
    for (uint32_t i = 0; i < Tile::kColumns; i += kRowsAtOnce) {
      const uint32_t t = min(blockIdx.y * Tile::kColumns + first + i, data.width - 1);
      ptx::copy_async_16(ptx::smem_address(stage + (Tile::kRows + first + i) * Tile::kStride + k),
                         rows + uint64_t{t} * data.k + chunk * kF32ProductColumns, 16);
    }
    ptx::copy_async_arrive(full);
  });
  ptx::copy_async_commit();
  ptx::copy_async_wait<0>();
}

// What the other warps do. Thread rows r of a half-warp are rows kRowTiles r + its tile.
template <class Tile>
__device__ void make_sums(const F32Product& data, const float* shared,
                          RingBarriers<Tile::kStages>& ring) {
  constexpr uint32_t kSteps = kF32ProductColumns / kDotLanes;
  const uint32_t num_columns = *data.num_columns;
  const uint32_t tile = half_warp() % Tile::kRowTiles;
  const uint32_t column = half_warp() / Tile::kRowTiles * Tile::kSumColumns;
  const float* row = shared + tile * Tile::kStride + dot_lane();
  const float* input = shared + (Tile::kRows + column) * Tile::kStride + dot_lane();
  float sums[Tile::kSumRows][Tile::kSumColumns] = {};
  Operands<Tile> operands;  // zeros at first: the sums stay 0
  RingPosition<Tile::kStages> at;
  for (uint32_t k = 0; k < data.k; k += kF32ProductColumns, at.advance()) {
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    const uint32_t stage = at.stage * Tile::kStageFloats;
#pragma unroll
    for (uint32_t i = 0; i < kSteps; ++i) {
      operands.multiply(i % operands.kSteps, sums);
      operands.load(i % operands.kSteps, row + stage + i * kDotLanes,
                    input + stage + i * kDotLanes);
    }
    leave_stage(ring, at.stage);
  }
#pragma unroll
  for (uint32_t i = 0; i < operands.kSteps; ++i) operands.multiply(i, sums);
#pragma unroll
  for (uint32_t c = 0; c < Tile::kSumColumns; ++c) {
    const uint32_t t = blockIdx.y * Tile::kColumns + column + c;
    const bool is_stored = t < num_columns && is_wanted(data.filter, t);
#pragma unroll
    for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
      const float sum = half_warp_tree(sums[r][c]);
      const uint32_t of = blockIdx.x * Tile::kRows + r * Tile::kRowTiles + tile;
      const uint32_t writer = (c * Tile::kSumRows + r) % kDotLanes;
      if (dot_lane() != writer || of >= data.num_rows || !is_stored) continue;
      data.output[uint64_t{t} * data.total_rows + data.first_row + of] = sum;
    }
  }
}

// CTA (x, y): the x-th rows of a tile, the y-th columns.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    f32_product_kernel(const __grid_constant__ F32Product data) {
  extern __shared__ __align__(128) float shared[];
  __shared__ RingBarriers<Tile::kStages> ring;
  if (threadIdx.x == 0) {
    ring.init(Tile::kWarps, 1 + kInputThreads);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::launch_dependents();
  const uint32_t warp = threadIdx.x / kWarpThreads;
  if (warp < Tile::kWarps) {
    ptx::wait_for_grids();
    make_sums<Tile>(data, shared, ring);
  } else if (warp == Tile::kWarps) {
    load_weights<Tile>(data, shared, ring);
  } else {
    load_inputs<Tile>(data, shared, ring);
  }
}

template <class Tile>
cudaError_t launch_tile(const F32Product& data, cudaStream_t stream) {
  const LaunchSize size = {dim3((data.num_rows + Tile::kRows - 1) / Tile::kRows,
                                (data.width + Tile::kColumns - 1) / Tile::kColumns),
                           Tile::kThreads, Tile::kBytes};
  return launch_with(f32_product_kernel<Tile>, size, {starts_early()}, stream, data);
}

}  // namespace

cudaError_t launch_f32_product(const F32Product& data, cudaStream_t stream) {
  if (data.k == 0 || data.k % kF32ProductColumns != 0 || data.num_rows == 0 || data.width == 0) {
    return cudaErrorInvalidValue;
  }
  // Few columns: tiles so small that a router's rows fill the multiprocessors. Many: larger ones,
  // that read less.
  if (data.width <= 8) return launch_tile<ProductTile<3, 1, 1, 4>>(data, stream);
  if (data.width <= 16) return launch_tile<ProductTile<3, 2, 1, 4>>(data, stream);
  if (data.width <= 64) return launch_tile<ProductTile<6, 4, 1, 4>>(data, stream);
  if (data.width <= 128) return launch_tile<ProductTile<6, 4, 2, 4>>(data, stream);
  return launch_tile<ProductTile<6, 4, 2, 8>>(data, stream);
}

}  // namespace ultraspeed::cuda
