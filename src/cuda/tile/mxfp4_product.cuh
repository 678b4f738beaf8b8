// Products of MXFP4 blocks [64 rows, 32 k] with e4m3 columns, each scaled as it is added: for row r
// and column c of block b,
//   sum[r, c] = fma(d * column_scale[b, c], weight_scale[r, b], sum[r, c])
// in binary32, d the wgmma product of the block (docs/numerics.md says how it rounds).
#pragma once

#include <cstdint>

#include "cuda/ptx/pin.cuh"
#include "cuda/ptx/wgmma.cuh"
#include "cuda/tile/mxfp4_page.h"

namespace ultraspeed::cuda {

// The scales of the rows that a thread has in a block (ptx/wgmma.cuh): g and g + 8.
struct RowScales {
  float first, second;
};

// From bytes index and index + 1 of four E8M0 bytes.
__device__ __forceinline__ RowScales row_scales(uint32_t word, uint32_t index) {
  return {__uint_as_float(scale_bits(word, index)), __uint_as_float(scale_bits(word, index + 1))};
}

// The scales of the columns that a thread has in a block. scales: [kColumns], in shared memory.
template <uint32_t kColumns>
struct ColumnScales {
  __device__ __forceinline__ explicit ColumnScales(const float* scales) {
    const auto* of_thread = reinterpret_cast<const float2*>(scales) + threadIdx.x % 4;
#pragma unroll
    for (uint32_t j = 0; j < kColumns / 8; ++j) pairs[j] = of_thread[4 * j];
  }
  float2 pairs[kColumns / 8];
};

template <uint32_t kColumns>
__device__ __forceinline__ void add_scaled(float (&sums)[kColumns / 2],
                                           const float (&d)[kColumns / 2], RowScales rows,
                                           const ColumnScales<kColumns>& scales) {
#pragma unroll
  for (uint32_t j = 0; j < kColumns / 8; ++j) {
    const float2 columns = scales.pairs[j];
    sums[4 * j] = __fmaf_rn(d[4 * j] * columns.x, rows.first, sums[4 * j]);
    sums[4 * j + 1] = __fmaf_rn(d[4 * j + 1] * columns.y, rows.first, sums[4 * j + 1]);
    sums[4 * j + 2] = __fmaf_rn(d[4 * j + 2] * columns.x, rows.second, sums[4 * j + 2]);
    sums[4 * j + 3] = __fmaf_rn(d[4 * j + 3] * columns.y, rows.second, sums[4 * j + 3]);
  }
}

// Decodes blocks [kBegin, kEnd) and starts their products as one group.
template <uint32_t kColumns, uint32_t kBegin, uint32_t kEnd, uint32_t kBlocks, class Descriptor>
__device__ __forceinline__ void start_products(const uint2 (&codes)[kBlocks],
                                               uint32_t (&a)[kBlocks][4],
                                               float (&d)[kBlocks][kColumns / 2],
                                               const Descriptor& descriptor) {
#pragma unroll
  for (uint32_t i = kBegin; i < kEnd; ++i) {
    uint2 words = codes[i];
    // Decoding stays behind the branches before it: registers of products in flight that are
    // written across a branch would make the compiler serialise them.
    ptx::pin(words.x);
    ptx::pin(words.y);
    const DecodedWord first = decode_word(words.x);
    const DecodedWord second = decode_word(words.y);
    a[i][0] = first.a;
    a[i][1] = second.a;
    a[i][2] = first.b;
    a[i][3] = second.b;
  }
  ptx::wgmma_fence();
#pragma unroll
  for (uint32_t i = kBegin; i < kEnd; ++i) {
    ptx::wgmma_m64k32<kColumns>(d[i], a[i], descriptor(i));
  }
  ptx::wgmma_commit();
}

// Computes the products of a warpgroup's blocks in two groups, the second while the first is
// added. codes: this lane's bytes of each block; descriptor(i): block i's columns; add(i, d):
// called in ascending order of i.
template <uint32_t kColumns, uint32_t kBlocks, class Descriptor, class Add>
__device__ __forceinline__ void multiply_blocks(const uint2 (&codes)[kBlocks],
                                                const Descriptor& descriptor, const Add& add) {
  constexpr uint32_t kHalf = (kBlocks + 1) / 2;
  uint32_t a[kBlocks][4];
  float d[kBlocks][kColumns / 2];
  const auto finish = [&](uint32_t begin, uint32_t end) {
#pragma unroll
    for (uint32_t i = begin; i < end; ++i) {
#pragma unroll
      for (float& value : d[i]) ptx::wgmma_result(value);
    }
#pragma unroll
    for (uint32_t i = begin; i < end; ++i) add(i, d[i]);
  };
  start_products<kColumns, 0, kHalf>(codes, a, d, descriptor);
  if constexpr (kHalf < kBlocks) {
    start_products<kColumns, kHalf, kBlocks>(codes, a, d, descriptor);
    ptx::wgmma_wait<1>();
    finish(0, kHalf);
  }
  ptx::wgmma_wait<0>();
  finish(kHalf < kBlocks ? kHalf : 0, kBlocks);
}

}  // namespace ultraspeed::cuda
