// Writes a query as operand A of its products with keys: core matrices of 8 rows x 16 bytes as
// KvTile::key() has them, split into terms whose sum it is, term_bytes apart.
//
// In global memory, for each column (token) and KV head: [terms][group / 8][head_dim / E][8 heads]
// [E], for the query heads of the KV head, filled up to `group` (flash_group()) with what nobody
// reads; the scales stand apart.
//
// In bf16 the first term is the value rounded to nearest, the second what is left, rounded
// likewise. Of caches in e4m3 a query is scaled by the power of two of tile/e4m3_operand.h and
// rounded to f16: operand of f16 products, or split into terms of e4m3.
#pragma once

#include <cstdint>

#include "cuda/ptx/convert.cuh"
#include "cuda/tile/e4m3_operand.h"
#include "cuda/tile/kv_tile.h"

namespace ultraspeed::cuda {

// Terms of queries, and of the weights of values. One gives errors of 2.7e-2 (e4m3) and 1.9e-3
// (bf16) of a row's largest output where two give 9e-4 and 2.4e-6 (rms; docs/numerics.md).
inline constexpr uint32_t kFlashTerms = 2;

// Terms of a pair of values as codes of e4m3: x = terms[0] + terms[1], after rounding to f16.
__device__ __forceinline__ void split_e4m3(float low, float high, uint16_t (&terms)[kFlashTerms]) {
  const uint32_t values = ptx::f16x2(low, high);
  terms[0] = ptx::e4m3x2(values);
  terms[1] = ptx::e4m3x2(ptx::subtract_f16x2(values, ptx::f16x2_of_e4m3x2(terms[0])));
}

// The same in bf16.
__device__ __forceinline__ void split_bf16(float low, float high, uint32_t (&terms)[kFlashTerms]) {
  terms[0] = ptx::bf16x2(low, high);
  terms[1] = ptx::bf16x2(low - __uint_as_float(terms[0] << 16),
                         high - __uint_as_float(terms[0] & 0xffff0000u));
}

// A query head of a column, for all lanes of a warp: dimensions 8 lane .. 8 lane + 7 in each.
template <class Tile>
struct QueryRow {
  static constexpr uint32_t kLanes = Tile::kHeadDim / 8;
  static_assert(kLanes <= 32);
  float values[8] = {};

  // query [head_dim] f32, rotated, aligned to 16; 8 divides head_dim.
  __device__ __forceinline__ void load(const float* query, uint32_t head_dim) {
    const uint32_t lane = threadIdx.x % 32;
    if (lane * 8 >= head_dim) return;
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const float4 four = reinterpret_cast<const float4*>(query)[2 * lane + i];
      values[4 * i] = four.x;
      values[4 * i + 1] = four.y;
      values[4 * i + 2] = four.z;
      values[4 * i + 3] = four.w;
    }
  }

  // Multiplies by `factor`, attention's scale times log2(e), and of caches in e4m3 by the scale's
  // inverse. Returns the scale: what products are to be multiplied with. A NaN makes it a NaN.
  __device__ __forceinline__ float scale(float factor) {
    uint32_t largest = 0;
#pragma unroll
    for (float& value : values) {
      value *= factor;
      largest = max(largest, __float_as_uint(value) & 0x7fffffffu);
    }
    const E4m3Scale power = e4m3_scale(__reduce_max_sync(~0u, largest));
    const float unit = Tile::kIsE4m3 ? power_of_two(-power.exponent) : 1.0F;
#pragma unroll
    for (float& value : values) value *= unit;
    return power.is_nan ? __int_as_float(0x7fc00000) : 1 / unit;
  }

  // The scaled row as row `row` of the operand, in the format of the tile.
  __device__ __forceinline__ void store(std::byte* operand, uint32_t term_bytes,
                                        uint32_t row) const {
    const uint32_t lane = threadIdx.x % 32;
    if (lane >= kLanes) return;
    std::byte* to = operand + Tile::key(row, lane * 8);
    if constexpr (Tile::kIsE4m3) {
      uint16_t pairs[4][kFlashTerms];
#pragma unroll
      for (uint32_t d = 0; d < 4; ++d) split_e4m3(values[2 * d], values[2 * d + 1], pairs[d]);
#pragma unroll
      for (uint32_t term = 0; term < kFlashTerms; ++term) {
        *reinterpret_cast<uint2*>(to + term * term_bytes) = {
            pairs[0][term] | uint32_t{pairs[1][term]} << 16,
            pairs[2][term] | uint32_t{pairs[3][term]} << 16};
      }
    } else {
      uint32_t pairs[4][kFlashTerms];
#pragma unroll
      for (uint32_t d = 0; d < 4; ++d) split_bf16(values[2 * d], values[2 * d + 1], pairs[d]);
#pragma unroll
      for (uint32_t term = 0; term < kFlashTerms; ++term) {
        *reinterpret_cast<uint4*>(to + term * term_bytes) = {pairs[0][term], pairs[1][term],
                                                             pairs[2][term], pairs[3][term]};
      }
    }
  }
};

}  // namespace ultraspeed::cuda
