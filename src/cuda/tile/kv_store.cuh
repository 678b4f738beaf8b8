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

// For all lanes of a warp. keys [head_dim], values [v_head_dim], f32 in shared or global memory,
// rotated and multiplied as attention is to see them; slot: position % 64.
template <class Tile>
__device__ void store_kv_row(std::byte* tile, uint32_t slot, KvScales scales, const float* keys,
                             const float* values) {
  static_assert(Tile::kHeadDim % 32 == 0 && Tile::kValueDim % 32 == 0);
  const uint32_t lane = threadIdx.x % 32;
  float key[Tile::kHeadDim / 32], value[Tile::kValueDim / 32];
#pragma unroll
  for (uint32_t i = 0; i < Tile::kHeadDim / 32; ++i) key[i] = keys[i * 32 + lane];
#pragma unroll
  for (uint32_t i = 0; i < Tile::kValueDim / 32; ++i) value[i] = values[i * 32 + lane];
  const bool is_nan = !__all_sync(~0u, is_finite(key) && is_finite(value));
  if constexpr (Tile::kIsE4m3) {
    const float key_unit = 1 / scales.key, value_unit = 1 / scales.value;
#pragma unroll
    for (uint32_t i = 0; i < Tile::kHeadDim / 32; ++i) {
      const uint16_t code = is_nan ? kE4m3Nan : ptx::e4m3x2(key[i] * key_unit, 0);
      tile[Tile::key(slot, i * 32 + lane)] = static_cast<std::byte>(code);
    }
#pragma unroll
    for (uint32_t i = 0; i < Tile::kValueDim / 32; ++i) {
      const uint16_t code = is_nan ? 0 : ptx::e4m3x2(value[i] * value_unit, 0);
      tile[Tile::value(slot, i * 32 + lane)] = static_cast<std::byte>(code);
    }
  } else {
    const auto store = [&](uint32_t at, uint32_t pair) {
      *reinterpret_cast<uint16_t*>(tile + at) = static_cast<uint16_t>(pair);
    };
#pragma unroll
    for (uint32_t i = 0; i < Tile::kHeadDim / 32; ++i) {
      store(Tile::key(slot, i * 32 + lane), is_nan ? 0x7fffu : ptx::bf16x2(key[i], 0));
    }
#pragma unroll
    for (uint32_t i = 0; i < Tile::kValueDim / 32; ++i) {
      store(Tile::value(slot, i * 32 + lane), is_nan ? 0 : ptx::bf16x2(value[i], 0));
    }
  }
}

}  // namespace ultraspeed::cuda
