// The steps of window_attention.cuh between queries and outputs: scores, weights, sums of values.
#pragma once

#include <cstdint>

#include "cuda/ops/flash_products.cuh"
#include "cuda/ops/window_tile.cuh"
#include "cuda/ptx/mma.cuh"
#include "cuda/tile/query_store.cuh"

namespace ultraspeed::cuda {

// Operand A of the products, of 16 bits an element: [terms][16 rows, 192], core matrices as
// KvTile<kBf16> has keys. Its 192 elements are first a query's dimensions, of caches in e4m3 in
// another order, then weights of the positions of kWindowTiles tiles.
template <class Tile>
struct WindowOperand {
  static constexpr uint32_t kElements = Tile::kHeadDim;
  static_assert(kElements == kWindowTiles * kKvTilePositions);
  static constexpr uint32_t kTerms = Tile::kIsE4m3 ? 1 : kFlashTerms;
  static constexpr uint32_t kStride = kElements / 8 * 128;  // from 8 rows to the next
  static constexpr uint32_t kTermBytes = kWindowRows * kElements * 2;
  static constexpr uint32_t kBytes = kTerms * kTermBytes;

  // Row `row`, piece of 8 elements.
  __device__ static constexpr uint32_t piece(uint32_t row, uint32_t piece) {
    return row / 8 * kStride + piece * 128 + row % 8 * 16;
  }

  // For a whole warp. In f16, of 16 dimensions, 4 t .. 4 t + 3 are elements 2 t, 2 t + 1, 8 + 2 t
  // and 8 + 2 t + 1: those of a lane's word of codes.
  __device__ __forceinline__ static void store_query(const QueryRow<Tile>& query,
                                                     std::byte* operand, uint32_t row) {
    if constexpr (Tile::kIsE4m3) {
      const uint32_t lane = threadIdx.x % 32;
      if (lane >= QueryRow<Tile>::kLanes) return;
      const float(&v)[8] = query.values;
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        *reinterpret_cast<uint2*>(operand + piece(row, lane / 2 * 2 + i) + lane % 2 * 8) = {
            ptx::f16x2(v[2 * i], v[2 * i + 1]), ptx::f16x2(v[2 * i + 4], v[2 * i + 5])};
      }
    } else {
      query.store(operand, kTermBytes, row);
    }
  }

  // Weights of positions 2 t and 2 t + 1 of the row's piece.
  __device__ __forceinline__ static void store_weights(std::byte* operand, uint32_t row,
                                                       uint32_t of_piece, uint32_t t, float low,
                                                       float high) {
    auto* to = reinterpret_cast<uint32_t*>(operand + piece(row, of_piece)) + t;
    if constexpr (Tile::kIsE4m3) {
      *to = ptx::f16x2(low, high);
    } else {
      uint32_t terms[kFlashTerms];
      split_bf16(low, high, terms);
#pragma unroll
      for (uint32_t term = 0; term < kFlashTerms; ++term) to[term * (kTermBytes / 4)] = terms[term];
    }
  }

  // For a whole warp: 16 elements of a term, as `mma` has them.
  __device__ __forceinline__ static void load(const std::byte* operand, uint32_t term,
                                              uint32_t step, uint32_t (&a)[4]) {
    const uint32_t matrix = threadIdx.x % 32 / 8;
    ptx::ldmatrix_x4(a, ptx::smem_address(operand) + term * kTermBytes +
                            piece(matrix % 2 * 8 + threadIdx.x % 8, 2 * step + matrix / 2));
  }

  __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t* b) {
    if constexpr (Tile::kIsE4m3) {
      ptx::mma_m16n8k16_f16(d, a, b);
    } else {
      ptx::mma_m16n8k16_bf16(d, a, b);
    }
  }
};

// Four codes of e4m3 as operand B.
__device__ __forceinline__ void decode_e4m3(uint32_t codes, uint32_t* b) {
  b[0] = ptx::f16x2_of_e4m3x2(static_cast<uint16_t>(codes));
  b[1] = ptx::f16x2_of_e4m3x2(static_cast<uint16_t>(codes >> 16));
}

// Floats from a row of scores to the next: 8 rows' pairs lie in different banks.
template <class Tile>
inline constexpr uint32_t kScorePitch = Tile::kIsE4m3 ? 152 : 136;

template <class Tile>
__device__ __forceinline__ uint32_t position_groups(const WindowPlace& at) {  // of 8
  return at.num_blocks * (Tile::kPiece / 8);
}

// The warps that make scores, three of the 17 or 18 groups of 8 positions each: what each reads of
// the queries is the same, and shared memory is what it waits for. The others have the step's own
// row to store.
inline constexpr uint32_t kScoreWarps = 6, kScoreGroups = 3;

// Operand B of a group of 8 positions: 32 dimensions.
template <class Tile>
__device__ __forceinline__ void load_keys(const std::byte* keys, uint32_t pair, uint32_t (&b)[4]) {
  const uint32_t lane = threadIdx.x % 32;
  if constexpr (Tile::kIsE4m3) {
    const auto* codes = reinterpret_cast<const uint32_t*>(keys) + pair * 64 + lane;
    decode_e4m3(codes[0], b);
    decode_e4m3(codes[32], b + 2);
  } else {
    ptx::ldmatrix_x4(b, ptx::smem_address(keys) + pair * 512 + lane * 16);
  }
}

// For kScoreWarps: scores [16 rows][kScorePitch], of the tile's positions. Warp w has groups w, w +
// 6 and w + 12; behind the last group stands that one, again.
template <class Tile>
__device__ __forceinline__ void make_scores(const WindowPlace& at, const std::byte* tile,
                                            const std::byte* operand, float* scores) {
  using Operand = WindowOperand<Tile>;
  static_assert(kScoreGroups * kScoreWarps * 8 >= WindowTile<Tile>::kPositions);
  constexpr uint32_t kPairs = Tile::kHeadDim / 32;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  uint32_t groups[kScoreGroups], b[kPairs][kScoreGroups][4];
  float sums[kScoreGroups][4] = {};
#pragma unroll
  for (uint32_t n = 0; n < kScoreGroups; ++n) {
    groups[n] = min(warp + n * kScoreWarps, position_groups<Tile>(at) - 1);
  }
#pragma unroll
  for (uint32_t term = Operand::kTerms; term-- > 0;) {
#pragma unroll
    for (uint32_t pair = 0; pair < kPairs; ++pair) {
      uint32_t a[2][4];
      Operand::load(operand, term, 2 * pair, a[0]);
      Operand::load(operand, term, 2 * pair + 1, a[1]);
      if (term == Operand::kTerms - 1) {
#pragma unroll
        for (uint32_t n = 0; n < kScoreGroups; ++n) {
          load_keys<Tile>(tile + groups[n] * Tile::kKeyStride, pair, b[pair][n]);
        }
      }
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
#pragma unroll
        for (uint32_t n = 0; n < kScoreGroups; ++n) {
          Operand::multiply(sums[n], a[half], b[pair][n] + 2 * half);
        }
      }
    }
  }
#pragma unroll
  for (uint32_t n = 0; n < kScoreGroups; ++n) {
    float* to = scores + lane / 4 * kScorePitch<Tile> + groups[n] * 8 + lane % 4 * 2;
    *reinterpret_cast<float2*>(to) = {sums[n][0], sums[n][1]};
    *reinterpret_cast<float2*>(to + 8 * kScorePitch<Tile>) = {sums[n][2], sums[n][3]};
  }
}

// What the tiles of a window give their rows. Of a tile that the window does not have: -infinity,
// and zeros.
struct WindowSoftmax {
  float scales[kWindowRows];                      // from scores to exponents
  float most[kWindowTiles][kWindowRows];          // the tile's largest exponent
  float lane_sums[kWindowTiles][kWindowRows][4];  // of weights: what lane t of four has
};

// What weights are relative to, m being the largest exponent so far.
__device__ __forceinline__ float weight_base(float m) {
  return m == minus_infinity() ? 0.0F : m;
}

// A row of it: the largest exponent, and what the sums of the tiles before each are to be
// multiplied with.
struct WindowRow {
  float most = minus_infinity();
  float factors[kWindowTiles];

  __device__ __forceinline__ WindowRow(const WindowSoftmax& softmax, uint32_t row) {
#pragma unroll
    for (uint32_t i = 0; i < kWindowTiles; ++i) {
      const float before = most;
      most = fmaxf(most, softmax.most[i][row]);
      factors[i] = ptx::exp2_approx(before - weight_base(most));
    }
  }
  // For all lanes of a quad, t in it: the sum of the row's weights.
  __device__ __forceinline__ float sum(const WindowSoftmax& softmax, uint32_t row,
                                       uint32_t t) const {
    float l = 0;
#pragma unroll
    for (uint32_t i = 0; i < kWindowTiles; ++i)
      l = fmaf(l, factors[i], softmax.lane_sums[i][row][t]);
    l += __shfl_xor_sync(~0u, l, 1);
    return l + __shfl_xor_sync(~0u, l, 2);
  }
};

// The warps that make weights: two a tile.
inline constexpr uint32_t kWeightWarps = 2 * kWindowTiles;

// Eight rows of a tile, two lanes' positions of each group: what a warp w has, of tile w / 2.
struct WeightPlace {
  __device__ __forceinline__ WeightPlace()
      : row(threadIdx.x / 32 % 2 * 8 + threadIdx.x % 32 / 4),
        tile(threadIdx.x / 64),
        t(threadIdx.x % 4) {}
  uint32_t row, tile, t;
};
inline constexpr uint32_t kTileGroups = kKvTilePositions / 8;

// The tile's scores, -infinity where the row does not see, and the largest exponent.
template <class Tile>
__device__ __forceinline__ void take_scores(const WindowPlace& at, const WeightPlace& of,
                                            const float* scores, float (&values)[2 * kTileGroups],
                                            WindowSoftmax& softmax) {
  const uint32_t first = (at.first_tile + of.tile) * kKvTilePositions;
  const uint32_t first_group = first / 8 - at.first_position() / 8;  // modulo 2^32
  const uint32_t last_group = position_groups<Tile>(at) - 1;
  const float* from = scores + of.row * kScorePitch<Tile> + 2 * of.t;
  float most = minus_infinity();
#pragma unroll
  for (uint32_t j = 0; j < kTileGroups; ++j) {
    const uint32_t group = min(first_group + j, last_group);
    const float2 pair = *reinterpret_cast<const float2*>(from + group * 8);
    const uint32_t from_begin = first + 8 * j + 2 * of.t - at.begin;  // modulo 2^32
    values[2 * j] = from_begin < at.end - at.begin ? pair.x : minus_infinity();
    values[2 * j + 1] = from_begin + 1 < at.end - at.begin ? pair.y : minus_infinity();
    most = fmaxf(most, fmaxf(values[2 * j], values[2 * j + 1]));
  }
  most = quad_max(most) * softmax.scales[of.row];
  if (of.t == 0) softmax.most[of.tile][of.row] = most;
}

// Behind a barrier: from those scores to the operand of weights.
template <class Tile>
__device__ __forceinline__ void store_weights(const WeightPlace& of,
                                              const float (&values)[2 * kTileGroups],
                                              std::byte* operand, WindowSoftmax& softmax) {
  const float scale = softmax.scales[of.row];
  float m = minus_infinity();
#pragma unroll
  for (uint32_t i = 0; i < kWindowTiles; ++i) {
    if (i <= of.tile) m = fmaxf(m, softmax.most[i][of.row]);
  }
  const float bias = kWeightExponent<Tile> - weight_base(m);
  float sums[2] = {};
#pragma unroll
  for (uint32_t j = 0; j < kTileGroups; ++j) {
    float weights[2];
#pragma unroll
    for (uint32_t k = 0; k < 2; ++k) {
      weights[k] = ptx::exp2_approx(fmaf(values[2 * j + k], scale, bias));
      sums[j % 2] += weights[k];
    }
    WindowOperand<Tile>::store_weights(operand, of.row, of.tile * kTileGroups + j, of.t, weights[0],
                                       weights[1]);
  }
  softmax.lane_sums[of.tile][of.row][of.t] = sums[0] + sums[1];
}

// For all warps: sums over positions of weights times values, each tile's apart, of dimensions
// 16 warp + 8 d + 2 t and the next in [d], rows g and g + 8. Where the window has no block weights
// are 0, and values those of a block that it has.
using WindowSums = float[kWindowTiles][2][4];
template <class Tile>
__device__ __forceinline__ void multiply_values(const WindowPlace& at, const std::byte* tile,
                                                const std::byte* operand, WindowSums& sums) {
  using Operand = WindowOperand<Tile>;
  using Own = WindowTile<Tile>;
  constexpr uint32_t kSteps = kKvTilePositions / 16;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::byte* values = tile + Own::kValues + 2 * warp * Own::kValueStride;
  const auto last_block = static_cast<int32_t>(at.num_blocks) - 1;
  uint32_t b[kSteps][kWindowTiles][4];
#pragma unroll
  for (uint32_t term = Operand::kTerms; term-- > 0;) {
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t i = 0; i < kWindowTiles; ++i) {
        const uint32_t first = (at.first_tile + i) * kKvTilePositions + step * 16;
        auto block = static_cast<int32_t>(first / Tile::kPiece - at.first_block);
        uint32_t a[4];
        Operand::load(operand, term, i * kSteps + step, a);
        if (term == Operand::kTerms - 1) {
          if constexpr (Tile::kIsE4m3) {
            const std::byte* from = values + min(max(block, 0), last_block) * 128 + lane * 4;
            decode_e4m3(*reinterpret_cast<const uint32_t*>(from), b[step][i]);
            decode_e4m3(*reinterpret_cast<const uint32_t*>(from + Own::kValueStride),
                        b[step][i] + 2);
          } else {
            const uint32_t matrix = lane / 8;
            block = min(max(block + static_cast<int32_t>(matrix % 2), 0), last_block);
            ptx::ldmatrix_x4(b[step][i], ptx::smem_address(values) +
                                             matrix / 2 * Own::kValueStride + block * 128 +
                                             lane % 8 * 16);
          }
        }
        Operand::multiply(sums[i][0], a, b[step][i]);
        Operand::multiply(sums[i][1], a, b[step][i] + 2);
      }
    }
  }
}

}  // namespace ultraspeed::cuda
