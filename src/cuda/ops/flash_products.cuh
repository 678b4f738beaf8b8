// The products of a warpgroup's 64 rows with a tile of keys and of values, and what stands between
// them: the step of a softmax whose largest logit is not known yet.
#pragma once

#include <cstdint>

#include "cuda/ops/softmax_state.cuh"
#include "cuda/ptx/convert.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/wgmma_shared.cuh"
#include "cuda/tile/kv_tile.h"
#include "cuda/tile/query_store.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kScoreRegisters = kKvTilePositions / 2;

// Starts scores = queries * keys of a tile: terms of the queries in [kFlashTerms][64, head_dim],
// the smallest first.
template <class Tile>
__device__ __forceinline__ void start_scores(float (&scores)[kScoreRegisters],
                                             const std::byte* queries, const std::byte* tile) {
  const uint64_t a = ptx::wgmma_matrix<128, Tile::kKeyStride>(ptx::smem_address(queries));
  const uint64_t b = ptx::wgmma_matrix<128, Tile::kKeyStride>(ptx::smem_address(tile));
  ptx::wgmma_fence();
#pragma unroll
  for (uint32_t i = 0; i < kFlashTerms; ++i) {
    const uint64_t term = a + (kFlashTerms - 1 - i) * (Tile::kKeyBytes / 16);
#pragma unroll
    for (uint32_t k = 0; k < Tile::kHeadDim / Tile::kPiece / 2; ++k) {
      if constexpr (Tile::kIsE4m3) {
        ptx::wgmma_m64n64_e4m3(scores, term + k * 16, b + k * 16, i + k > 0);
      } else {
        ptx::wgmma_m64n64_bf16(scores, term + k * 16, b + k * 16, i + k > 0);
      }
    }
  }
  ptx::wgmma_commit();
}

// A warpgroup's weights of a tile as operand A.
template <class Tile>
struct FlashWeights {
  static constexpr uint32_t kSteps = kKvTilePositions / Tile::kPiece / 2;
  uint32_t words[kFlashTerms][kSteps][4];

  // From scores in the order of a product's registers.
  __device__ __forceinline__ void pack(const float (&weights)[kScoreRegisters]) {
#pragma unroll
    for (uint32_t step = 0; step < kSteps; ++step) {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        if constexpr (Tile::kIsE4m3) {
          const float* from = weights + step * 16 + i / 2 * 8 + i % 2 * 2;
          uint16_t low[kFlashTerms], high[kFlashTerms];
          split_e4m3(from[0], from[1], low);
          split_e4m3(from[4], from[5], high);
#pragma unroll
          for (uint32_t term = 0; term < kFlashTerms; ++term) {
            words[term][step][i] = low[term] | uint32_t{high[term]} << 16;
          }
        } else {
          const float* from = weights + step * 8 + i / 2 * 4 + i % 2 * 2;
          uint32_t pair[kFlashTerms];
          split_bf16(from[0], from[1], pair);
#pragma unroll
          for (uint32_t term = 0; term < kFlashTerms; ++term) words[term][step][i] = pair[term];
        }
      }
    }
  }
};

// Starts sums = weights * values of a tile, the smallest term first.
template <class Tile>
__device__ __forceinline__ void start_sums(float (&sums)[Tile::kValueDim / 2],
                                           const FlashWeights<Tile>& weights,
                                           const std::byte* tile) {
  const uint64_t b =
      ptx::wgmma_matrix<128, Tile::kValueStride>(ptx::smem_address(tile + Tile::kValues));
  ptx::wgmma_fence();
#pragma unroll
  for (uint32_t i = 0; i < kFlashTerms; ++i) {
#pragma unroll
    for (uint32_t step = 0; step < FlashWeights<Tile>::kSteps; ++step) {
      if constexpr (Tile::kIsE4m3) {
        ptx::wgmma_m64n128_e4m3(sums, weights.words[kFlashTerms - 1 - i][step], b + step * 16,
                                i + step > 0);
      } else {
        ptx::wgmma_m64n128_bf16(sums, weights.words[kFlashTerms - 1 - i][step], b + step * 16,
                                i + step > 0);
      }
    }
  }
  ptx::wgmma_commit();
}

// Weights are exponentials relative to the largest one, times 2^8 where they become e4m3, so that
// they use its range down to 2^-9.
template <class Tile>
inline constexpr float kWeightExponent = Tile::kIsE4m3 ? 8.0F : 0.0F;

inline constexpr float kLog2E = 1.44269504088896340736F;

// A row's sum l of weights relative to m, with the sink's: infinite where the sink is beyond
// compare or all that there is, so that the output is 0.
template <class Tile>
__device__ __forceinline__ float with_sink(float l, float m, float sink) {
  return l + ptx::exp2_approx(fmaf(sink, kLog2E, kWeightExponent<Tile> - m));
}

// The softmax of one of a thread's rows so far: m = the largest exponent; l = the sum of
// 2^(exponent - m + kWeightExponent) over this lane's positions, its quad's lanes have the others.
struct FlashRow {
  float m, l;
  float scale;          // from scores to exponents: 2^s of the row's query, times that of the keys
  uint32_t begin, end;  // visible positions
};

// Scores of positions that a row does not see become -infinity. first: the tile's first position.
__device__ __forceinline__ void mask_scores(float (&scores)[kScoreRegisters], uint32_t first,
                                            const FlashRow (&rows)[2]) {
  const uint32_t lane_first = first + threadIdx.x % 4 * 2;
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t begin = rows[i].begin - lane_first;  // modulo 2^32, as what follows
    const uint32_t count = rows[i].end - rows[i].begin;
#pragma unroll
    for (uint32_t j = 0; j < kScoreRegisters / 4; ++j) {
#pragma unroll
      for (uint32_t k = 0; k < 2; ++k) {
        if (8 * j + k - begin >= count) scores[4 * j + 2 * i + k] = minus_infinity();
      }
    }
  }
}

__device__ __forceinline__ float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
  return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}

// From a tile's scores to weights. Takes the tile into rows; factors are what their sums so far are
// to be multiplied with. The sums of a lane's weights are those of even and of odd groups of 8
// positions, added.
template <class Tile>
__device__ __forceinline__ void take_weights(float (&scores)[kScoreRegisters], FlashRow (&rows)[2],
                                             float (&factors)[2]) {
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    float most[2] = {scores[2 * i], scores[2 * i + 4]};
#pragma unroll
    for (uint32_t j = 0; j < kScoreRegisters / 4; ++j) {
      // Of a NaN and a number fmaxf takes the number; the weight of the NaN is a NaN.
      most[j % 2] = fmaxf(most[j % 2], fmaxf(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]));
    }
    const float m = fmaxf(rows[i].m, quad_max(fmaxf(most[0], most[1])) * rows[i].scale);
    const float base = m == minus_infinity() ? 0.0F : m;
    factors[i] = ptx::exp2_approx(rows[i].m - base);
    rows[i].m = m;
    float sums[2] = {};
#pragma unroll
    for (uint32_t j = 0; j < kScoreRegisters / 4; ++j) {
#pragma unroll
      for (uint32_t k = 0; k < 2; ++k) {
        float& score = scores[4 * j + 2 * i + k];
        score = ptx::exp2_approx(fmaf(score, rows[i].scale, kWeightExponent<Tile> - base));
        sums[j % 2] += score;
      }
    }
    rows[i].l = fmaf(rows[i].l, factors[i], sums[0] + sums[1]);
  }
}

}  // namespace ultraspeed::cuda
