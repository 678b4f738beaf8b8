// The sums of f32_product.h: tiles of the product from stages of K in shared memory.
#pragma once

#include <cstdint>

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/f32_product.h"
#include "cuda/ptx/shared_load.cuh"

namespace ultraspeed::cuda {

// A CTA's tile of the product and its shared memory: stages of kStageColumns columns of K, of each
// of its rows of weights and then of inputs. The two halves of a warp take neighbouring rows of
// weights, whose distance in a stage has them read different banks.
template <uint32_t kRowsOfThread, uint32_t kColumnsOfThread, uint32_t kRowWarps,
          uint32_t kColumnWarps, uint32_t kStageColumns>
struct ProductTile {
  static constexpr uint32_t kSumRows = kRowsOfThread, kSumColumns = kColumnsOfThread;
  static constexpr uint32_t kWarps = kRowWarps * kColumnWarps;  // and behind them those that load
  static constexpr uint32_t kRowTiles = 2 * kRowWarps;
  static constexpr uint32_t kRows = kRowTiles * kRowsOfThread;
  static constexpr uint32_t kColumns = kColumnWarps * kColumnsOfThread;
  static constexpr uint32_t kStageK = kStageColumns, kStride = kStageColumns + kDotLanes;
  static constexpr uint32_t kStageFloats = (kRows + kColumns) * kStride;
};

// Elements of a thread's rows and columns for some steps of its lane's sums. All are read anew as
// soon as they have been used, while those of another batch are.
template <class Tile>
class Operands {
 public:
  static constexpr uint32_t kSteps = Tile::kSumRows + Tile::kSumColumns > 5 ||
                                             Tile::kStageK % (8 * kDotLanes) != 0
                                         ? 2
                                         : 4;

  __device__ __forceinline__ void multiply(float (&sums)[Tile::kSumRows][Tile::kSumColumns]) const {
#pragma unroll
    for (uint32_t i = 0; i < kSteps; ++i) {
#pragma unroll
      for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
#pragma unroll
        for (uint32_t c = 0; c < Tile::kSumColumns; ++c) {
          sums[r][c] = fmaf(weights_[i][r], inputs_[i][c], sums[r][c]);
        }
      }
    }
  }

  // row, input: addresses in shared memory.
  __device__ __forceinline__ void load(uint32_t row, uint32_t input) {
    constexpr uint32_t kFloat = sizeof(float);
#pragma unroll
    for (uint32_t i = 0; i < kSteps; ++i, row += kDotLanes * kFloat, input += kDotLanes * kFloat) {
#pragma unroll
      for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
        weights_[i][r] = ptx::load_shared_here(row + r * Tile::kRowTiles * Tile::kStride * kFloat);
      }
#pragma unroll
      for (uint32_t c = 0; c < Tile::kSumColumns; ++c) {
        inputs_[i][c] = ptx::load_shared_here(input + c * Tile::kStride * kFloat);
      }
    }
  }

 private:
  float weights_[kSteps][Tile::kSumRows] = {};
  float inputs_[kSteps][Tile::kSumColumns] = {};
};

// For Tile::kWarps warps: tile (x, y) of the product, the x-th rows, the y-th columns. Thread rows
// r of a half-warp are rows kRowTiles r + its tile. next(): the next stage of K, when it is there;
// leave(): it has been read.
template <class Tile, class Next, class Leave>
__device__ __forceinline__ void make_sums(const F32Product& data, uint32_t x, uint32_t y,
                                          const Next& next, const Leave& leave) {
  constexpr uint32_t kBatchK = Operands<Tile>::kSteps * kDotLanes;
  static_assert(Tile::kStageK % (2 * kBatchK) == 0);
  const uint32_t num_columns = *data.num_columns;
  const uint32_t tile = half_warp() % Tile::kRowTiles;
  const uint32_t column = half_warp() / Tile::kRowTiles * Tile::kSumColumns;
  const uint32_t row = tile * Tile::kStride + dot_lane();
  const uint32_t input = (Tile::kRows + column) * Tile::kStride + dot_lane();
  float sums[Tile::kSumRows][Tile::kSumColumns] = {};
  Operands<Tile> batches[2];  // zeros at first: the sums stay 0
  for (uint32_t k = 0; k < data.k; k += Tile::kStageK) {
    const float* stage = next();
#pragma unroll
    for (uint32_t i = 0; i < Tile::kStageK / kBatchK; ++i) {
      const float* from = stage + i * kBatchK;
      batches[i % 2].multiply(sums);
      batches[i % 2].load(ptx::smem_address(from + row), ptx::smem_address(from + input));
    }
    leave();
  }
  for (const Operands<Tile>& batch : batches) batch.multiply(sums);
#pragma unroll
  for (uint32_t c = 0; c < Tile::kSumColumns; ++c) {
    const uint32_t t = y * Tile::kColumns + column + c;
    const bool is_stored = t < num_columns && is_wanted(data.filter, t);
#pragma unroll
    for (uint32_t r = 0; r < Tile::kSumRows; ++r) {
      const float sum = half_warp_tree(sums[r][c]);
      const uint32_t of = x * Tile::kRows + r * Tile::kRowTiles + tile;
      const uint32_t writer = (c * Tile::kSumRows + r) % kDotLanes;
      if (dot_lane() != writer || of >= data.num_rows || !is_stored) continue;
      data.output[uint64_t{t} * data.total_rows + data.first_row + of] = sum;
    }
  }
}

}  // namespace ultraspeed::cuda
