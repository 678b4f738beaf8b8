// What the kernels of expert_w4a8_prefill.h share: stages of shared memory, and the products of
// eight blocks with the columns of a tile.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/ops/expert_w4a8_prefill.h"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/warpgroup.cuh"
#include "cuda/tile/e4m3_operand.h"
#include "cuda/tile/mxfp4_product.cuh"
#include "cuda/tile/page_ring.cuh"

namespace ultraspeed::cuda {

// Warps 0 .. 7: two consumer warpgroups.
inline constexpr uint32_t kPrefillConsumerWarps = 8;
inline constexpr uint32_t kOtherRegisters = 72;  // of a thread that is no consumer

// A stage: 8 blocks of each warpgroup's weights, and the columns of these blocks.
inline constexpr uint32_t kStageWeightBytes = 2 * (kSlabCodeBytes + kSlabScaleBytes);
static_assert(kStageWeightBytes == GateUpPage::kBytes && kStageWeightBytes == 2 * DownPage::kBytes);

// Of a stage's columns: codes, then scales.
constexpr US_HOST_DEVICE uint32_t stage_operand_bytes(uint32_t columns) {
  return columns * kSlabBlocks * (kBlockColumns + 4);
}

inline constexpr uint32_t kPrefillStageBytes =
    kStageWeightBytes + stage_operand_bytes(kMaxTileColumns);
inline constexpr uint32_t kMaxPrefillShared = 226 * 1024;  // of a CTA

// Calls call(integral constant of the columns).
template <class Call>
__device__ __forceinline__ void for_columns(uint32_t columns, const Call& call) {
  switch (columns) {
    case 8:
      return call(std::integral_constant<uint32_t, 8>());
    case 16:
      return call(std::integral_constant<uint32_t, 16>());
    case 24:
      return call(std::integral_constant<uint32_t, 24>());
    case 32:
      return call(std::integral_constant<uint32_t, 32>());
    case 40:
      return call(std::integral_constant<uint32_t, 40>());
    case 48:
      return call(std::integral_constant<uint32_t, 48>());
    case 56:
      return call(std::integral_constant<uint32_t, 56>());
    default:
      return call(std::integral_constant<uint32_t, 64>());
  }
}

// How many products are in registers at a time.
template <uint32_t kColumns>
inline constexpr uint32_t kProductDepth = kColumns <= 16   ? 8
                                          : kColumns <= 24 ? 4
                                                           : 2;

__device__ __forceinline__ void wait_products(uint32_t pending) {
  switch (pending) {
    case 0:
      return ptx::wgmma_wait<0>();
    case 1:
      return ptx::wgmma_wait<1>();
    case 2:
      return ptx::wgmma_wait<2>();
    case 3:
      return ptx::wgmma_wait<3>();
    case 4:
      return ptx::wgmma_wait<4>();
    case 5:
      return ptx::wgmma_wait<5>();
    case 6:
      return ptx::wgmma_wait<6>();
    default:
      return ptx::wgmma_wait<7>();
  }
}

// sums[r, c] += the slab's products, block after block (tile/mxfp4_product.cuh). operand: codes and
// scales of the stage's columns.
template <uint32_t kColumns>
__device__ __forceinline__ void add_slab(const Mxfp4Slab& slab, const std::byte* operand,
                                         float (&sums)[kColumns / 2]) {
  constexpr uint32_t kDepth = kProductDepth<kColumns>;
  constexpr uint32_t kBlockBytes = kColumns * kBlockColumns;
  const uint64_t descriptor = ptx::wgmma_descriptor(ptx::smem_address(operand));
  const auto address = static_cast<uint32_t>(descriptor);
  const uint64_t layout = descriptor >> 32 << 32;
  const auto* column_scales = reinterpret_cast<const float*>(operand + kSlabBlocks * kBlockBytes);
  uint32_t a[kDepth][4];
  float d[kDepth][kColumns / 2];
  const auto start = [&](uint32_t i) {
    uint2 words = slab.codes[i];
    ptx::pin(words.x);
    ptx::pin(words.y);
    const DecodedWord first = decode_word(words.x), second = decode_word(words.y);
    uint32_t(&of_block)[4] = a[i % kDepth];
    of_block[0] = first.a;
    of_block[1] = second.a;
    of_block[2] = first.b;
    of_block[3] = second.b;
    ptx::wgmma_fence();
    ptx::wgmma_m64k32<kColumns>(d[i % kDepth], of_block,
                                layout | (address + i * (kBlockBytes / 16)));
    ptx::wgmma_commit();
  };
#pragma unroll
  for (uint32_t i = 0; i + 1 < kDepth; ++i) start(i);
#pragma unroll
  for (uint32_t i = 0; i < kSlabBlocks; ++i) {
    // Read while products are in flight.
    ColumnScales<kColumns> scales(column_scales + i * kColumns);
#pragma unroll
    for (float2& pair : scales.pairs) {
      ptx::pin(pair.x);
      ptx::pin(pair.y);
    }
    if (i + kDepth - 1 < kSlabBlocks) start(i + kDepth - 1);
    wait_products(kSlabBlocks - 1 - i < kDepth - 1 ? kSlabBlocks - 1 - i : kDepth - 1);
    float(&product)[kColumns / 2] = d[i % kDepth];
#pragma unroll
    for (float& value : product) ptx::wgmma_result(value);
    add_scaled<kColumns>(sums, product, row_scales(slab.scales[i / 2], i % 2 * 2), scales);
#pragma unroll
    for (float& value : sums) ptx::pin(value);  // added before d is written again
  }
}

}  // namespace ultraspeed::cuda
