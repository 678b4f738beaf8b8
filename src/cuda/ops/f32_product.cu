#include "cuda/ops/f32_product.h"

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/tile/page_ring.cuh"

namespace ultraspeed::cuda {
namespace {

// A CTA's tile of the product and its shared memory: stages of kF32ProductColumns columns of K, of
// each of its rows of weights and then of inputs. The two halves of a warp take neighbouring rows
// of weights, whose distance in a stage has them read different banks.
template <uint32_t kRowsOfThread, uint32_t kColumnsOfThread, uint32_t kRowWarps,
          uint32_t kColumnWarps>
struct ProductTile {
  static constexpr uint32_t kSumRows = kRowsOfThread, kSumColumns = kColumnsOfThread;
  static constexpr uint32_t kWarps = kRowWarps * kColumnWarps;  // and one that loads
  static constexpr uint32_t kThreads = (kWarps + 1) * kWarpThreads;
  static constexpr uint32_t kRowTiles = 2 * kRowWarps;
  static constexpr uint32_t kRows = kRowTiles * kRowsOfThread;
  static constexpr uint32_t kColumns = kColumnWarps * kColumnsOfThread;
  static constexpr uint32_t kAllRows = kRows + kColumns;
  static constexpr uint32_t kStride = kF32ProductColumns + kDotLanes;
  static constexpr uint32_t kStageFloats = kAllRows * kStride;
  static constexpr uint32_t kPieceBytes = kF32ProductColumns * sizeof(float);
  static constexpr uint32_t kStages = kStreamSharedBytes / (kStageFloats * sizeof(float));
  static constexpr uint32_t kBytes = kStages * kStageFloats * sizeof(float);
};

// Elements of a thread's rows and columns for some steps of its lane's sums.
template <class Tile>
struct Operands {
  static constexpr uint32_t kSteps = Tile::kSumRows + Tile::kSumColumns > 5 ? 4 : 8;
  float weights[kSteps][Tile::kSumRows] = {};
  float inputs[kSteps][Tile::kSumColumns] = {};

  __device__ __forceinline__ void load(const float* row, const float* input, uint32_t first) {
#pragma unroll
    for (uint32_t i = 0; i < kSteps; ++i) {
      const uint32_t k = (first + i) * kDotLanes;
#pragma unroll
      for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
        weights[i][r] = row[r * Tile::kRowTiles * Tile::kStride + k];
      }
#pragma unroll
      for (uint32_t c = 0; c < Tile::kSumColumns; ++c) inputs[i][c] = input[c * Tile::kStride + k];
    }
  }

  __device__ __forceinline__ void multiply(float (&sums)[Tile::kSumRows][Tile::kSumColumns]) const {
#pragma unroll
    for (uint32_t i = 0; i < kSteps; ++i) {
#pragma unroll
      for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
#pragma unroll
        for (uint32_t c = 0; c < Tile::kSumColumns; ++c) {
          sums[r][c] = fmaf(weights[i][r], inputs[i][c], sums[r][c]);
        }
      }
    }
  }
};

// The warp that loads: weights of all stages before it waits for the grids ahead, then inputs.
template <class Tile>
class ProductLoader {
 public:
  __device__ ProductLoader(const F32Product& data, float* shared, RingBarriers<Tile::kStages>& ring)
      : data_(data), shared_(shared), ring_(ring), lane_(threadIdx.x % kWarpThreads) {}

  __device__ void run() {
    const uint32_t chunks = data_.k / kF32ProductColumns;
    const uint32_t ahead = min(chunks, Tile::kStages);
    for (uint32_t chunk = 0; chunk < ahead; ++chunk) {
      announce(chunk);
      load_rows(data_.weights, blockIdx.x * Tile::kRows, data_.num_rows, 0, Tile::kRows, chunk);
    }
    ptx::wait_for_grids();
    for (uint32_t chunk = 0; chunk < ahead; ++chunk) load_inputs(chunk);
    RingPosition<Tile::kStages> at = {0, 1};
    for (uint32_t chunk = ahead; chunk < chunks; ++chunk, at.advance()) {
      ptx::mbarrier_wait(&ring_.empty[at.stage], at.parity ^ 1);  // partner: leave_stage()
      announce(chunk);
      load_rows(data_.weights, blockIdx.x * Tile::kRows, data_.num_rows, 0, Tile::kRows, chunk);
      load_inputs(chunk);
    }
  }

 private:
  // The stage's bytes, before any of them is asked for.
  __device__ void announce(uint32_t chunk) {
    if (lane_ == 0) {
      ptx::mbarrier_arrive_expect_tx(&ring_.full[chunk % Tile::kStages],
                                     Tile::kAllRows * Tile::kPieceBytes);
    }
    __syncwarp();
  }

  __device__ void load_inputs(uint32_t chunk) {
    load_rows(data_.rows, blockIdx.y * Tile::kColumns, data_.width, Tile::kRows, Tile::kColumns,
              chunk);
  }

  // Rows from `first` on, the last one in place of those beyond it, to places of the stage.
  __device__ void load_rows(const float* rows, uint32_t first, uint32_t num_rows, uint32_t place,
                            uint32_t count, uint32_t chunk) {
    const uint32_t stage = chunk % Tile::kStages;
    float* to = shared_ + stage * Tile::kStageFloats + place * Tile::kStride;
    for (uint32_t i = lane_; i < count; i += kWarpThreads) {
      const float* row = rows + uint64_t{min(first + i, num_rows - 1)} * data_.k;
      ptx::bulk_copy(to + i * Tile::kStride, row + chunk * kF32ProductColumns, Tile::kPieceBytes,
                     &ring_.full[stage]);
    }
  }

  const F32Product& data_;
  float* shared_;
  RingBarriers<Tile::kStages>& ring_;
  uint32_t lane_;
};

// What the other warps do. Thread rows r of a half-warp are rows kRowTiles r + its tile.
template <class Tile>
__device__ void make_sums(const F32Product& data, const float* shared,
                          RingBarriers<Tile::kStages>& ring) {
  using Batch = Operands<Tile>;
  constexpr uint32_t kSteps = kF32ProductColumns / kDotLanes;
  const uint32_t tile = half_warp() % Tile::kRowTiles;
  const uint32_t column = half_warp() / Tile::kRowTiles * Tile::kSumColumns;
  const float* row = shared + tile * Tile::kStride + dot_lane();
  const float* input = shared + (Tile::kRows + column) * Tile::kStride + dot_lane();
  float sums[Tile::kSumRows][Tile::kSumColumns] = {};
  Batch batch;  // of zeros: the sums stay 0
  RingPosition<Tile::kStages> at;
  for (uint32_t k = 0; k < data.k; k += kF32ProductColumns, at.advance()) {
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    const uint32_t stage = at.stage * Tile::kStageFloats;
#pragma unroll
    for (uint32_t first = 0; first < kSteps; first += Batch::kSteps) {
      Batch next;
      next.load(row + stage, input + stage, first);
      batch.multiply(sums);
      batch = next;
    }
    leave_stage(ring, at.stage);
  }
  batch.multiply(sums);
  const uint32_t num_columns = *data.num_columns;
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
    ring.init(Tile::kWarps);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::launch_dependents();
  if (threadIdx.x / kWarpThreads == Tile::kWarps) {
    ProductLoader<Tile>(data, shared, ring).run();
    return;
  }
  ptx::wait_for_grids();
  make_sums<Tile>(data, shared, ring);
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
  if (data.width <= 8) return launch_tile<ProductTile<3, 2, 1, 2>>(data, stream);
  if (data.width <= 16) return launch_tile<ProductTile<3, 2, 1, 4>>(data, stream);
  if (data.width <= 128) return launch_tile<ProductTile<6, 4, 1, 4>>(data, stream);
  return launch_tile<ProductTile<6, 4, 2, 8>>(data, stream);
}

}  // namespace ultraspeed::cuda
