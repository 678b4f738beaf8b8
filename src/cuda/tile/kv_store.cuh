// Writes a position's keys and values of one KV head into their tile (tile/kv_tile.h).
#pragma once

#include <cstdint>

#include "cuda/ptx/convert.cuh"
#include "cuda/tile/e4m3_operand.h"
#include "cuda/tile/kv_tile.h"

namespace ultraspeed::cuda {

template <uint32_t kCount>
__device__ __forceinline__ bool is_finite(const float (&values)[kCount]) {
  bool is = true;
#pragma unroll
  for (const float value : values) is = is && fabsf(value) < __int_as_float(0x7f800000);
  return is;
}

// A position's row, dimension 32 i + lane in each lane of a warp, all of which call.
template <class Tile>
struct KvRow {
  static_assert(Tile::kHeadDim % 32 == 0 && Tile::kValueDim % 32 == 0);
  float key[Tile::kHeadDim / 32], value[Tile::kValueDim / 32];

  // Of KV head `head` of a cache and the step's column t; rows [T, num_kv_heads * (head_dim +
  // v_head_dim)] f32, the k heads, then the v heads: rotated and multiplied as attention is to see
  // them.
  __device__ __forceinline__ void load(const float* rows, const KvTiles& cache, uint32_t t,
                                       uint32_t head) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t head_dim = cache.head_dim, v_head_dim = cache.v_head_dim;
    const float* keys = rows + uint64_t{t} * cache.num_kv_heads * (head_dim + v_head_dim);
    const float* values = keys + cache.num_kv_heads * head_dim + head * v_head_dim;
    keys += head * head_dim;
#pragma unroll
    for (uint32_t i = 0; i < Tile::kHeadDim / 32; ++i) {
      key[i] = i * 32 + lane < head_dim ? keys[i * 32 + lane] : 0;
    }
#pragma unroll
    for (uint32_t i = 0; i < Tile::kValueDim / 32; ++i) {
      value[i] = i * 32 + lane < v_head_dim ? values[i * 32 + lane] : 0;
    }
  }

  // Into slot `slot` of a tile of that layout.
  template <class Layout = Tile>
  __device__ __forceinline__ void store(std::byte* tile, uint32_t slot, KvScales scales) const {
    const uint32_t lane = threadIdx.x % 32;
    const bool is_nan = !__all_sync(~0u, is_finite(key) && is_finite(value));
    const float key_unit = 1 / scales.key, value_unit = 1 / scales.value;
#pragma unroll
    for (uint32_t i = 0; i < Tile::kHeadDim / 32; ++i) {
      std::byte* to = tile + Layout::key(slot, i * 32 + lane);
      if constexpr (Tile::kIsE4m3) {
        *to = static_cast<std::byte>(is_nan ? kE4m3Nan : ptx::e4m3x2(key[i] * key_unit, 0));
      } else {
        *reinterpret_cast<uint16_t*>(to) =
            static_cast<uint16_t>(is_nan ? 0x7fffu : ptx::bf16x2(key[i], 0));
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < Tile::kValueDim / 32; ++i) {
      std::byte* to = tile + Layout::value(slot, i * 32 + lane);
      if constexpr (Tile::kIsE4m3) {
        *to = static_cast<std::byte>(is_nan ? 0 : ptx::e4m3x2(value[i] * value_unit, 0));
      } else {
        *reinterpret_cast<uint16_t*>(to) =
            static_cast<uint16_t>(is_nan ? 0 : ptx::bf16x2(value[i], 0));
      }
    }
  }
};

}  // namespace ultraspeed::cuda
