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

// For all warps: scores [16 rows][kScorePitch], of the tile's positions.
template <class Tile>
__device__ __forceinline__ void make_scores(const WindowPlace& at, const std::byte* tile,
                                            const std::byte* operand, float* scores) {
  using Operand = WindowOperand<Tile>;
  constexpr uint32_t kMost =
      (WindowTile<Tile>::kPositions / 8 + kWindowWarps - 1) / kWindowWarps;  // groups of a warp
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const uint32_t groups = position_groups<Tile>(at);
  float sums[kMost][4] = {};
#pragma unroll
  for (uint32_t i = 0; i < Operand::kTerms; ++i) {
#pragma unroll
    for (uint32_t pair = 0; pair < Tile::kHeadDim / 32; ++pair) {
      uint32_t a[2][4];
      Operand::load(operand, Operand::kTerms - 1 - i, 2 * pair, a[0]);
      Operand::load(operand, Operand::kTerms - 1 - i, 2 * pair + 1, a[1]);
#pragma unroll
      for (uint32_t n = 0; n < kMost; ++n) {
        if (warp + n * kWindowWarps >= groups) continue;
        const std::byte* keys = tile + (warp + n * kWindowWarps) * Tile::kKeyStride;
        uint32_t b[4];
        if constexpr (Tile::kIsE4m3) {
          const auto* codes = reinterpret_cast<const uint32_t*>(keys) + pair * 64 + lane;
          decode_e4m3(codes[0], b);
          decode_e4m3(codes[32], b + 2);
        } else {
          ptx::ldmatrix_x4(b, ptx::smem_address(keys) + pair * 512 + lane * 16);
        }
        Operand::multiply(sums[n], a[0], b);
        Operand::multiply(sums[n], a[1], b + 2);
      }
    }
  }
#pragma unroll
  for (uint32_t n = 0; n < kMost; ++n) {
    if (warp + n * kWindowWarps >= groups) continue;
    float* to =
        scores + lane / 4 * kScorePitch<Tile> + (warp + n * kWindowWarps) * 8 + lane % 4 * 2;
    *reinterpret_cast<float2*>(to) = {sums[n][0], sums[n][1]};
    *reinterpret_cast<float2*>(to + 8 * kScorePitch<Tile>) = {sums[n][2], sums[n][3]};
  }
}

// What the tiles of a window give their rows.
struct WindowSoftmax {
  float scales[kWindowRows];                      // from scores to exponents
  float most[kWindowTiles][kWindowRows];          // the tile's largest exponent
  float lane_sums[kWindowTiles][kWindowRows][4];  // of weights: what lane t of four has

  // The largest of the first tiles.
  __device__ float largest(uint32_t row, uint32_t num_tiles) const {
    float m = minus_infinity();
    for (uint32_t i = 0; i < num_tiles; ++i) m = fmaxf(m, most[i][row]);
    return m;
  }
  // What exponents of tile i are relative to.
  __device__ float base(uint32_t row, uint32_t i) const {
    const float m = largest(row, i + 1);
    return m == minus_infinity() ? 0.0F : m;
  }
  // What the sums of the tiles before i are to be multiplied with.
  __device__ float factor(uint32_t row, uint32_t i) const {
    return ptx::exp2_approx(largest(row, i) - base(row, i));
  }
  // For all lanes of a quad, t in it: the sum of a row's weights.
  __device__ float sum(uint32_t row, uint32_t t, uint32_t num_tiles) const {
    float l = 0;
    for (uint32_t i = 0; i < num_tiles; ++i) l = fmaf(l, factor(row, i), lane_sums[i][row][t]);
    l += __shfl_xor_sync(~0u, l, 1);
    return l + __shfl_xor_sync(~0u, l, 2);
  }
};

// For all warps: from scores to the operand of weights. Warp w has 8 rows of tile w / 2.
template <class Tile>
__device__ __forceinline__ void make_weights(const WindowPlace& at, const float* scores,
                                             std::byte* operand, WindowSoftmax& softmax) {
  constexpr uint32_t kGroups = kKvTilePositions / 8;
  const uint32_t warp = threadIdx.x / 32, t = threadIdx.x % 4;
  const uint32_t row = warp % 2 * 8 + threadIdx.x % 32 / 4, i = warp / 2;
  const uint32_t first = (at.first_tile + i) * kKvTilePositions;
  const bool has_tile = i < at.num_tiles;
  const uint32_t groups = position_groups<Tile>(at);
  float weights[2 * kGroups] = {};
  const float scale = softmax.scales[row];
  if (has_tile) {
    float most = minus_infinity();
#pragma unroll
    for (uint32_t j = 0; j < kGroups; ++j) {
      const uint32_t group = first / 8 + j - at.first_position() / 8;  // modulo 2^32
      float2 pair = {minus_infinity(), minus_infinity()};
      if (group < groups) {
        pair =
            *reinterpret_cast<const float2*>(scores + row * kScorePitch<Tile> + group * 8 + 2 * t);
      }
      const uint32_t from_begin = first + 8 * j + 2 * t - at.begin;  // modulo 2^32
      weights[2 * j] = from_begin < at.end - at.begin ? pair.x : minus_infinity();
      weights[2 * j + 1] = from_begin + 1 < at.end - at.begin ? pair.y : minus_infinity();
      most = fmaxf(most, fmaxf(weights[2 * j], weights[2 * j + 1]));
    }
    most = quad_max(most) * scale;
    if (t == 0) softmax.most[i][row] = most;
  }
  __syncthreads();
  if (i >= kWindowTiles) return;
  const float base = has_tile ? softmax.base(row, i) : 0.0F;
  float sums[2] = {};
#pragma unroll
  for (uint32_t j = 0; j < kGroups; ++j) {
#pragma unroll
    for (uint32_t k = 2 * j; k < 2 * j + 2; ++k) {
      weights[k] =
          has_tile ? ptx::exp2_approx(fmaf(weights[k], scale, kWeightExponent<Tile> - base)) : 0.0F;
      sums[j % 2] += weights[k];
    }
    WindowOperand<Tile>::store_weights(operand, row, i * kGroups + j, t, weights[2 * j],
                                       weights[2 * j + 1]);
  }
  softmax.lane_sums[i][row][t] = sums[0] + sums[1];
}

// For all warps: sums over positions of weights times values, of dimensions 16 warp + 8 d + 2 t and
// the next in sums[d], rows g and g + 8. Where the window has no block weights are 0, and values
// those of a block that it has.
template <class Tile>
__device__ __forceinline__ void add_values(const WindowPlace& at, const std::byte* tile,
                                           const std::byte* operand, const WindowSoftmax& softmax,
                                           float (&sums)[2][4]) {
  using Operand = WindowOperand<Tile>;
  using Own = WindowTile<Tile>;
  constexpr uint32_t kSteps = kKvTilePositions / 16;
  const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::byte* values = tile + Own::kValues + 2 * warp * Own::kValueStride;
  const auto block_at = [&](uint32_t position) {
    const auto block = static_cast<int32_t>(position / Tile::kPiece - at.first_block);
    return static_cast<uint32_t>(min(max(block, 0), static_cast<int32_t>(at.num_blocks) - 1));
  };
  float of_tile[kWindowTiles][2][4] = {};
#pragma unroll
  for (uint32_t term = Operand::kTerms; term-- > 0;) {
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t i = 0; i < kWindowTiles; ++i) {
        const uint32_t first = (at.first_tile + i) * kKvTilePositions + step * 16;
        uint32_t a[4], b[4];
        Operand::load(operand, term, i * kSteps + step, a);
        if constexpr (Tile::kIsE4m3) {
          const std::byte* block = values + block_at(first) * 128 + lane * 4;
          decode_e4m3(*reinterpret_cast<const uint32_t*>(block), b);
          decode_e4m3(*reinterpret_cast<const uint32_t*>(block + Own::kValueStride), b + 2);
        } else {
          const uint32_t matrix = lane / 8;
          ptx::ldmatrix_x4(b, ptx::smem_address(values) + matrix / 2 * Own::kValueStride +
                                  block_at(first + matrix % 2 * 8) * 128 + lane % 8 * 16);
        }
        Operand::multiply(of_tile[i][0], a, b);
        Operand::multiply(of_tile[i][1], a, b + 2);
      }
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < kWindowTiles; ++i) {
    if (i >= at.num_tiles) continue;
    const float factors[2] = {softmax.factor(lane / 4, i), softmax.factor(lane / 4 + 8, i)};
#pragma unroll
    for (uint32_t d = 0; d < 2; ++d) {
#pragma unroll
      for (uint32_t j = 0; j < 4; ++j) {
        sums[d][j] = fmaf(sums[d][j], factors[j / 2], of_tile[i][d][j]);
      }
    }
  }
}

}  // namespace ultraspeed::cuda
