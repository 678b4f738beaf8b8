// The products of a warpgroup's 64 rows with a tile of keys and of values, and what stands between
// them: the step of a softmax whose largest logit is not known yet.
#pragma once

#include <cstdint>

#include "cuda/ops/flash_attention.h"
#include "cuda/ops/softmax_state.cuh"
#include "cuda/ptx/convert.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/wgmma_shared.cuh"
#include "cuda/tile/kv_tile.h"
#include "cuda/tile/query_store.cuh"

namespace ultraspeed::cuda {

// What a softmax takes at once: neighbouring tiles of a cache, from a multiple of their positions
// on. In shared memory [keys of each tile], then [values of each tile].
template <class Tile>
struct FlashStep {
  static constexpr uint32_t kTiles = Tile::kIsE4m3 ? 2 : 1;
  static constexpr uint32_t kPositions = kTiles * kKvTilePositions;
  static_assert(kFlashStepPositions % kPositions == 0);
  static constexpr uint32_t kValues = kTiles * Tile::kKeyBytes;
  static constexpr uint32_t kBytes = kTiles * Tile::kBytes;
  static constexpr uint32_t kScoreRegisters = kPositions / 2;
  using Scores = float[kScoreRegisters];
};

// Starts scores = queries * keys of a step: terms of the queries in [kFlashTerms][64, head_dim],
// the smallest first.
template <class Tile>
__device__ __forceinline__ void start_scores(typename FlashStep<Tile>::Scores& scores,
                                             uint32_t queries, uint32_t step) {
  const uint64_t a = ptx::wgmma_matrix<128, Tile::kKeyStride>(queries);
  const uint64_t b = ptx::wgmma_matrix<128, Tile::kKeyStride>(step);
  ptx::wgmma_fence();
#pragma unroll
  for (uint32_t i = 0; i < kFlashTerms; ++i) {
    const uint64_t term = a + (kFlashTerms - 1 - i) * (Tile::kKeyBytes / 16);
#pragma unroll
    for (uint32_t k = 0; k < Tile::kHeadDim / Tile::kPiece / 2; ++k) {
      if constexpr (Tile::kIsE4m3) {
        ptx::wgmma_m64n128_e4m3(scores, term + k * 16, b + k * 16, i + k > 0);
      } else {
        ptx::wgmma_m64n64_bf16(scores, term + k * 16, b + k * 16, i + k > 0);
      }
    }
  }
  ptx::wgmma_commit();
}

// A warpgroup's weights of a step as operand A.
template <class Tile>
struct FlashWeights {
  static constexpr uint32_t kTileSteps = kKvTilePositions / Tile::kPiece / 2;  // products
  static constexpr uint32_t kProducts = FlashStep<Tile>::kTiles * kTileSteps;
  uint32_t words[kFlashTerms][kProducts][4];

  // The weights of row `row` (g or g + 8) and two groups of 8 positions, 2 pair and 2 pair + 1.
  __device__ __forceinline__ void pack(uint32_t pair, uint32_t row, const float (&weights)[4]) {
    if constexpr (Tile::kIsE4m3) {
      uint16_t low[kFlashTerms], high[kFlashTerms];
      split_e4m3(weights[0], weights[1], low);
      split_e4m3(weights[2], weights[3], high);
#pragma unroll
      for (uint32_t term = 0; term < kFlashTerms; ++term) {
        words[term][pair / 2][pair % 2 * 2 + row] = low[term] | uint32_t{high[term]} << 16;
      }
    } else {
#pragma unroll
      for (uint32_t half = 0; half < 2; ++half) {
        uint32_t terms[kFlashTerms];
        split_bf16(weights[2 * half], weights[2 * half + 1], terms);
#pragma unroll
        for (uint32_t term = 0; term < kFlashTerms; ++term) {
          words[term][pair][half * 2 + row] = terms[term];
        }
      }
    }
  }
};

// Starts sums = weights * values of a step, the smallest term first.
template <class Tile>
__device__ __forceinline__ void start_sums(float (&sums)[Tile::kValueDim / 2],
                                           const FlashWeights<Tile>& weights, uint32_t step) {
  using Weights = FlashWeights<Tile>;
  const uint64_t b = ptx::wgmma_matrix<128, Tile::kValueStride>(step + FlashStep<Tile>::kValues);
  ptx::wgmma_fence();
#pragma unroll
  for (uint32_t i = 0; i < kFlashTerms; ++i) {
#pragma unroll
    for (uint32_t k = 0; k < Weights::kProducts; ++k) {
      const uint64_t of =
          b + k / Weights::kTileSteps * (Tile::kValueBytes / 16) + k % Weights::kTileSteps * 16;
      const auto& a = weights.words[kFlashTerms - 1 - i][k];
      if constexpr (Tile::kIsE4m3) {
        ptx::wgmma_m64n128_e4m3(sums, a, of, i + k > 0);
      } else {
        ptx::wgmma_m64n128_bf16(sums, a, of, i + k > 0);
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

// Scores of positions that a row does not see become -infinity. first: the step's first position.
template <uint32_t kCount>
__device__ __forceinline__ void mask_scores(float (&scores)[kCount], uint32_t first,
                                            const FlashRow (&rows)[2]) {
  const uint32_t lane_first = first + threadIdx.x % 4 * 2;
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t begin = rows[i].begin - lane_first;  // modulo 2^32, as what follows
    const uint32_t count = rows[i].end - rows[i].begin;
#pragma unroll
    for (uint32_t j = 0; j < kCount / 4; ++j) {
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

// From a step's scores to weights. Takes the step into rows; factors are what their sums so far
// are to be multiplied with. The sums of a lane's weights are those of even and of odd groups of 8
// positions, added.
template <class Tile>
__device__ __forceinline__ void take_weights(const typename FlashStep<Tile>::Scores& scores,
                                             FlashRow (&rows)[2], float (&factors)[2],
                                             FlashWeights<Tile>& weights) {
  constexpr uint32_t kGroups = FlashStep<Tile>::kPositions / 8;
  float most[2][2], bias[2], sums[2][2] = {};
#pragma unroll
  for (uint32_t j = 0; j < kGroups; ++j) {
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      // Of a NaN and a number fmaxf takes the number; the weight of the NaN is a NaN.
      const float pair = fmaxf(scores[4 * j + 2 * i], scores[4 * j + 2 * i + 1]);
      most[i][j % 2] = j < 2 ? pair : fmaxf(most[i][j % 2], pair);
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const float m = fmaxf(rows[i].m, quad_max(fmaxf(most[i][0], most[i][1])) * rows[i].scale);
    const float base = m == minus_infinity() ? 0.0F : m;
    factors[i] = ptx::exp2_approx(rows[i].m - base);
    rows[i].m = m;
    bias[i] = kWeightExponent<Tile> - base;
  }
#pragma unroll
  for (uint32_t pair = 0; pair < kGroups / 2; ++pair) {
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      float of_pair[4];
#pragma unroll
      for (uint32_t k = 0; k < 4; ++k) {
        of_pair[k] = ptx::exp2_approx(
            fmaf(scores[8 * pair + k / 2 * 4 + 2 * i + k % 2], rows[i].scale, bias[i]));
        sums[i][k / 2] += of_pair[k];
      }
      weights.pack(pair, i, of_pair);
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    rows[i].l = fmaf(rows[i].l, factors[i], sums[i][0] + sums[i][1]);
  }
}

}  // namespace ultraspeed::cuda
