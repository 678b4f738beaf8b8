#include "cuda/ops/f32_product.cuh"
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
// Of a row, in a stage.
template <class Tile>
inline constexpr uint32_t kPieceBytes = Tile::kStageK * sizeof(float);

// Stages of a tile that fit, and the threads of a CTA.
template <class Tile>
inline constexpr uint32_t kProductStages = kStreamSharedBytes /
                                           (Tile::kStageFloats * sizeof(float));
template <class Tile>
inline constexpr uint32_t kProductThreads = (Tile::kWarps + 1 + kInputWarps) * kWarpThreads;

// For the stages of a ring, one behind the other: calls load(its first column of K, its place in
// shared memory, its full barrier) as soon as the stage is free. Partner: leave_stage().
template <class Tile, class Load>
__device__ __forceinline__ void fill_stages(uint32_t k, float* shared,
                                            RingBarriers<kProductStages<Tile>>& ring,
                                            const Load& load) {
  RingPosition<kProductStages<Tile>> at;
  for (uint32_t begin = 0; begin < k; begin += Tile::kStageK, at.advance()) {
    ptx::mbarrier_wait(&ring.empty[at.stage], at.parity ^ 1);
    load(begin, shared + at.stage * Tile::kStageFloats, &ring.full[at.stage]);
  }
}

// For one warp. Weights are there before the grids ahead end.
template <class Tile>
__device__ void load_weights(const F32Product& data, float* shared,
                             RingBarriers<kProductStages<Tile>>& ring) {
  const uint32_t lane = threadIdx.x % kWarpThreads;
  static_assert(Tile::kRows <= kWarpThreads);
  const uint32_t row = min(blockIdx.x * Tile::kRows + lane, data.num_rows - 1);
  const float* from = data.weights + uint64_t{row} * data.k;
  fill_stages<Tile>(data.k, shared, ring, [&](uint32_t begin, float* stage, uint64_t* full) {
    if (lane == 0) ptx::mbarrier_arrive_expect_tx(full, Tile::kRows * kPieceBytes<Tile>);
    __syncwarp();
    if (lane >= Tile::kRows) return;
    ptx::bulk_copy(stage + lane * Tile::kStride, from + begin, kPieceBytes<Tile>, full);
  });
}

// For kInputWarps warps.
template <class Tile>
__device__ void load_inputs(const F32Product& data, float* shared,
                            RingBarriers<kProductStages<Tile>>& ring) {
  constexpr uint32_t kPieceThreads = kPieceBytes<Tile> / 16;
  constexpr uint32_t kRowsAtOnce = kInputThreads / kPieceThreads;
  const uint32_t thread = threadIdx.x - (Tile::kWarps + 1) * kWarpThreads;
  const uint32_t first = thread / kPieceThreads, k = thread % kPieceThreads * 4;
  const bool copies = first < kRowsAtOnce;
  const float* rows = data.rows + k;
  ptx::wait_for_grids();
  fill_stages<Tile>(data.k, shared, ring, [&](uint32_t begin, float* stage, uint64_t* full) {
#pragma unroll
    for (uint32_t i = 0; i < Tile::kColumns; i += kRowsAtOnce) {
      if (!copies || first + i >= Tile::kColumns) break;
      const uint32_t t = min(blockIdx.y * Tile::kColumns + first + i, data.width - 1);
      ptx::copy_async_16(ptx::smem_address(stage + (Tile::kRows + first + i) * Tile::kStride + k),
                         rows + uint64_t{t} * data.k + begin, 16);
    }
    ptx::copy_async_arrive(full);
  });
  ptx::copy_async_commit();
  ptx::copy_async_wait<0>();
}

// CTA (x, y): the x-th rows of a tile, the y-th columns.
template <class Tile>
__global__ void __launch_bounds__(kProductThreads<Tile>, 1)
    f32_product_kernel(const __grid_constant__ F32Product data) {
  extern __shared__ __align__(128) float shared[];
  __shared__ RingBarriers<kProductStages<Tile>> ring;
  if (threadIdx.x == 0) {
    ring.init(Tile::kWarps, 1 + kInputThreads);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::launch_dependents();
  const uint32_t warp = threadIdx.x / kWarpThreads;
  if (warp < Tile::kWarps) {
    ptx::wait_for_grids();
    RingPosition<kProductStages<Tile>> at;
    make_sums<Tile>(
        data, blockIdx.x, blockIdx.y,
        [&] {
          ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
          return shared + at.stage * Tile::kStageFloats;
        },
        [&] {
          leave_stage(ring, at.stage);
          at.advance();
        });
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
                           kProductThreads<Tile>,
                           kProductStages<Tile> * Tile::kStageFloats * sizeof(float)};
  return launch_with(f32_product_kernel<Tile>, size, {starts_early()}, stream, data);
}

// Few columns: tiles so small that a router's rows fill the multiprocessors. Many: larger ones,
// that read less.
template <uint32_t kStageColumns>
cudaError_t launch_width(const F32Product& data, cudaStream_t stream) {
  if (data.width <= 8) return launch_tile<ProductTile<3, 1, 1, 4, kStageColumns>>(data, stream);
  if (data.width <= 16) return launch_tile<ProductTile<3, 2, 1, 4, kStageColumns>>(data, stream);
  if (data.width <= 64) return launch_tile<ProductTile<6, 4, 1, 4, kStageColumns>>(data, stream);
  if (data.width <= 128) return launch_tile<ProductTile<6, 4, 2, 4, kStageColumns>>(data, stream);
  return launch_tile<ProductTile<6, 4, 2, 8, kStageColumns>>(data, stream);
}

}  // namespace

cudaError_t launch_f32_product(const F32Product& data, cudaStream_t stream) {
  if (data.k == 0 || data.k % kF32ProductColumns != 0 || data.num_rows == 0 || data.width == 0) {
    return cudaErrorInvalidValue;
  }
  if (data.k % kF32LongStage == 0) return launch_width<kF32LongStage>(data, stream);
  if (data.k % kF32ShortStage == 0) return launch_width<kF32ShortStage>(data, stream);
  return launch_width<kF32ProductColumns>(data, stream);
}

}  // namespace ultraspeed::cuda
