// The sums of f32_product.h: tiles of the product from stages of K in shared memory.
#pragma once

#include <cstdint>

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/f32_product.h"

namespace ultraspeed::cuda {

// A CTA's tile of the product and its shared memory: stages of kStageColumns columns of K, of each
// of its rows of weights and then of inputs. The two halves of a warp take neighbouring rows of
// weights, whose distance in a stage has them read different banks.
template <uint32_t kRowsOfThread, uint32_t kColumnsOfThread, uint32_t kRowWarps,
          uint32_t kColumnWarps, uint32_t kStageColumns = kF32ProductColumns>
struct ProductTile {
  static constexpr uint32_t kSumRows = kRowsOfThread, kSumColumns = kColumnsOfThread;
  static constexpr uint32_t kWarps = kRowWarps * kColumnWarps;  // and behind them those that load
  static constexpr uint32_t kRowTiles = 2 * kRowWarps;
  static constexpr uint32_t kRows = kRowTiles * kRowsOfThread;
  static constexpr uint32_t kColumns = kColumnWarps * kColumnsOfThread;
  static constexpr uint32_t kStageK = kStageColumns, kStride = kStageColumns + kDotLanes;
  static constexpr uint32_t kStageFloats = (kRows + kColumns) * kStride;
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

// For Tile::kWarps warps: tile (x, y) of the product, the x-th rows, the y-th columns. Thread rows
// r of a half-warp are rows kRowTiles r + its tile. next(): the next stage of K, when it is there;
// leave(): it has been read.
template <class Tile, class Next, class Leave>
__device__ __forceinline__ void make_sums(const F32Product& data, uint32_t x, uint32_t y,
                                          const Next& next, const Leave& leave) {
  constexpr uint32_t kSteps = Tile::kStageK / kDotLanes;
  const uint32_t num_columns = *data.num_columns;
  const uint32_t tile = half_warp() % Tile::kRowTiles;
  const uint32_t column = half_warp() / Tile::kRowTiles * Tile::kSumColumns;
  const uint32_t row = tile * Tile::kStride + dot_lane();
  const uint32_t input = (Tile::kRows + column) * Tile::kStride + dot_lane();
  float sums[Tile::kSumRows][Tile::kSumColumns] = {};
  Operands<Tile> operands;  // zeros at first: the sums stay 0
  for (uint32_t k = 0; k < data.k; k += Tile::kStageK) {
    const float* stage = next();
#pragma unroll
    for (uint32_t i = 0; i < kSteps; ++i) {
      operands.multiply(i % operands.kSteps, sums);
      operands.load(i % operands.kSteps, stage + row + i * kDotLanes,
                    stage + input + i * kDotLanes);
    }
    leave();
  }
#pragma unroll
  for (uint32_t i = 0; i < operands.kSteps; ++i) operands.multiply(i, sums);
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
