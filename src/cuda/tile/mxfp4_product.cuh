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

// What a thread has of a slab: its codes of each block, and the scales of its rows.
struct Mxfp4Slab {
  Mxfp4Slab() = default;
  __device__ Mxfp4Slab(const std::byte* slab_codes, const std::byte* slab_scales) {
    const uint32_t thread = threadIdx.x % 128;
#pragma unroll
    for (uint32_t i = 0; i < kSlabBlocks; ++i) {
      codes[i] = *reinterpret_cast<const uint2*>(slab_codes + DownPage::codes(0, i, 0, thread));
    }
    const uint4 words =
        *reinterpret_cast<const uint4*>(slab_scales + thread / 4 * (kSlabBlocks * 2));
    scales[0] = words.x;
    scales[1] = words.y;
    scales[2] = words.z;
    scales[3] = words.w;
  }

  // For what reads and computes nothing: all bits.
  __device__ uint32_t bits() const {
    uint32_t all = 0;
    for (const uint2 word : codes) all ^= word.x ^ word.y;
    for (const uint32_t word : scales) all ^= word;
    return all;
  }

  uint2 codes[kSlabBlocks];
  uint32_t scales[kSlabBlocks / 2];  // (block 2 i: row g, row g + 8; block 2 i + 1: likewise)
};

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
  ColumnScales() = default;
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
// called in ascending order of i; meanwhile(): called while products run.
template <uint32_t kColumns, uint32_t kBlocks, class Descriptor, class Add, class Meanwhile>
__device__ __forceinline__ void multiply_blocks(const uint2 (&codes)[kBlocks],
                                                const Descriptor& descriptor, const Add& add,
                                                const Meanwhile& meanwhile) {
  constexpr uint32_t kHalf = kBlocks / 2;
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
  start_products<kColumns, kHalf, kBlocks>(codes, a, d, descriptor);
  meanwhile();
  ptx::wgmma_wait<1>();
  finish(0, kHalf);
  ptx::wgmma_wait<0>();
  finish(kHalf, kBlocks);
}

// Whether registers are left to read what products need before the products ahead are done.
template <uint32_t kColumns>
inline constexpr bool kReadsAhead = kColumns <= 16;

// sums[r, c] += the slab's products, block after block, kBatch of them in registers at a time.
// codes: descriptor of the slab's first block of columns, the next kStep further; column_scales:
// of that block. meanwhile(): called while the last products run.
template <uint32_t kColumns, uint32_t kBatch, uint32_t kStep, class Meanwhile>
__device__ __forceinline__ void multiply_slab(const Mxfp4Slab& slab, uint64_t codes,
                                              const float* column_scales,
                                              float (&sums)[kColumns / 2],
                                              const Meanwhile& meanwhile) {
#pragma unroll
  for (uint32_t begin = 0; begin < kSlabBlocks; begin += kBatch) {
    const auto scales_of = [&](uint32_t i) {
      return ColumnScales<kColumns>(column_scales + (begin + i) * kColumns);
    };
    uint2 batch[kBatch];
    ColumnScales<kColumns> scales[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      batch[i] = slab.codes[begin + i];
      if (kReadsAhead<kColumns>) scales[i] = scales_of(i);
    }
    multiply_blocks<kColumns>(
        batch, [&](uint32_t i) { return codes + (begin + i) * kStep; },
        [&](uint32_t i, const float(&d)[kColumns / 2]) {
          const uint32_t block = begin + i;
          add_scaled<kColumns>(sums, d, row_scales(slab.scales[block / 2], block % 2 * 2),
                               kReadsAhead<kColumns> ? scales[i] : scales_of(i));
        },
        [&] {
          if (begin + kBatch == kSlabBlocks) meanwhile();
        });
  }
}

}  // namespace ultraspeed::cuda
