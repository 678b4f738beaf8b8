// What a consumer thread does with a page (dense_page.h) and its piece of the operand
// (dense_operand.h): d = its warpgroup's slab times the piece's columns, then the sum of
// docs/numerics.md section 10. Registers of d as in ptx/wgmma.cuh.
#pragma once

#include <cstdint>

#include "cuda/ptx/convert.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/mma.cuh"
#include "cuda/ptx/pin.cuh"
#include "cuda/ptx/wgmma.cuh"
#include "cuda/tile/dense_operand.h"
#include "cuda/tile/dense_page.h"

namespace ultraspeed::cuda {

// A thread's bytes of a slab.
template <class Page>
struct DenseSlab {
  __device__ DenseSlab(const std::byte* page, uint32_t slab, uint32_t warp, uint32_t lane) {
#pragma unroll
    for (uint32_t i = 0; i < kDenseQuads; ++i) {
      quads[i] = *reinterpret_cast<const uint4*>(page + Page::codes(slab, i, warp, lane));
    }
    if constexpr (DenseOperand<Page>::kIsFp8) {
      scales = *reinterpret_cast<const float2*>(page + Page::scales(slab, warp, lane / 4));
    }
  }

  __device__ uint32_t bits() const {
    uint32_t all = __float_as_uint(scales.x) ^ __float_as_uint(scales.y);
    for (const uint4& quad : quads) all ^= quad.x ^ quad.y ^ quad.z ^ quad.w;
    return all;
  }

  uint4 quads[kDenseQuads];
  float2 scales = {};  // FP8: of rows g and g + 8
};

// Eight bytes of FP8 codes as operand A of a step.
__device__ __forceinline__ void decode_step(uint32_t first, uint32_t second, uint32_t (&a)[4]) {
  a[0] = ptx::f16x2_of_e4m3x2(static_cast<uint16_t>(first));
  a[1] = ptx::f16x2_of_e4m3x2(static_cast<uint16_t>(second));
  a[2] = ptx::f16x2_of_e4m3x2(static_cast<uint16_t>(first >> 16));
  a[3] = ptx::f16x2_of_e4m3x2(static_cast<uint16_t>(second >> 16));
}

// Up to this width warps multiply, in 368 clocks a page instead of 517 (H100, width 8), and free a
// stage before they do; from then on warpgroups, which read the operand once for all 64 rows.
inline constexpr uint32_t kDenseWarpColumns = 16;

// What a warp needs of kSteps steps of a piece: all of it in registers, so that the stage is free
// while the products go on. Matrices i are of columns 2 i and 2 i + 1 of 16, or of one half of
// them; terms of BF16 one behind the other.
template <class Page, uint32_t kColumns, uint32_t kSteps = DenseOperand<Page>::kBlockSteps>
struct WarpPiece {
  using Operand = DenseOperand<Page>;
  static constexpr uint32_t kPairs = kSteps / 2;

  __device__ __forceinline__ WarpPiece(const std::byte* piece, uint32_t first_step) {
    const uint32_t address = ptx::smem_address(piece) + first_step * Operand::step_bytes(kColumns) +
                             threadIdx.x % 32 * 16;
#pragma unroll
    for (uint32_t term = 0; term < Operand::kTerms; ++term) {
#pragma unroll
      for (uint32_t i = 0; i < kPairs * kColumns / 8; ++i) {
        ptx::ldmatrix_x4(
            words[term][i],
            address + term * Operand::kSteps * Operand::step_bytes(kColumns) + i * 512);
      }
    }
  }
  // Both halves of k of columns 8 j .. 8 j + 7 in a step.
  __device__ __forceinline__ const uint32_t* matrices(uint32_t term, uint32_t step,
                                                      uint32_t j) const {
    const uint32_t index = step * kColumns / 8 + j;
    return &words[term][index / 2][index % 2 * 2];
  }

  uint32_t words[Operand::kTerms][kPairs * kColumns / 8][4];
};

// By one warp: step `step` of a slab, known when compiled, with step `in_piece` of the columns.
template <uint32_t kColumns, uint32_t kSteps>
__device__ __forceinline__ void multiply_step(const DenseSlab<Fp8Page>& slab, uint32_t step,
                                              const WarpPiece<Fp8Page, kColumns, kSteps>& piece,
                                              uint32_t in_piece, float (&d)[kColumns / 2]) {
  const uint4& quad = slab.quads[step / 2];
  uint32_t a[4];
  decode_step(step % 2 == 0 ? quad.x : quad.z, step % 2 == 0 ? quad.y : quad.w, a);
#pragma unroll
  for (uint32_t j = 0; j < kColumns / 8; ++j) {
    ptx::mma_m16n8k16_f16(d + 4 * j, a, piece.matrices(0, in_piece, j));
  }
}

// By one warp.
template <uint32_t kColumns>
__device__ __forceinline__ void multiply_slab(const DenseSlab<Fp8Page>& slab,
                                              const WarpPiece<Fp8Page, kColumns>& piece,
                                              float (&d)[kColumns / 2]) {
#pragma unroll
  for (uint32_t step = 0; step < DenseOperand<Fp8Page>::kBlockSteps; ++step) {
    multiply_step(slab, step, piece, step, d);
  }
}

template <uint32_t kColumns>
__device__ __forceinline__ void multiply_slab(const DenseSlab<Bf16Page>& slab,
                                              const WarpPiece<Bf16Page, kColumns>& piece,
                                              float (&d)[kColumns / 2]) {
#pragma unroll
  for (uint32_t step = 0; step < DenseOperand<Bf16Page>::kBlockSteps; ++step) {
    const uint4& quad = slab.quads[step];
    const uint32_t a[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
    for (uint32_t term = 0; term < 2; ++term) {
#pragma unroll
      for (uint32_t j = 0; j < kColumns / 8; ++j) {
        ptx::mma_m16n8k16_bf16(d + 4 * j, a, piece.matrices(term, step, j));
      }
    }
  }
}

// Starts the products of quads [kBegin, kEnd) as one group. operand: descriptor of the slab's
// codes.
template <uint32_t kColumns, uint32_t kBegin, uint32_t kEnd>
__device__ __forceinline__ void start_products(const DenseSlab<Fp8Page>& slab,
                                               uint32_t (&a)[kDenseQuads * 2][4], uint64_t operand,
                                               float (&d)[kColumns / 2]) {
  constexpr uint32_t kStep = DenseOperand<Fp8Page>::step_bytes(kColumns) / 16;
#pragma unroll
  for (uint32_t i = kBegin; i < kEnd; ++i) {
    uint4 quad = slab.quads[i];
    // Decoding stays behind the branches before it: registers of products in flight that are
    // written across a branch would make the compiler serialise them.
    ptx::pin(quad.x);
    ptx::pin(quad.y);
    ptx::pin(quad.z);
    ptx::pin(quad.w);
    decode_step(quad.x, quad.y, a[2 * i]);
    decode_step(quad.z, quad.w, a[2 * i + 1]);
  }
  ptx::wgmma_fence();
#pragma unroll
  for (uint32_t step = 2 * kBegin; step < 2 * kEnd; ++step) {
    ptx::wgmma_m64k16_f16<kColumns>(d, a[step], operand + step * kStep);
  }
  ptx::wgmma_commit();
}

template <uint32_t kColumns>
__device__ __forceinline__ void multiply_slab(const DenseSlab<Fp8Page>& slab, uint64_t operand,
                                              float (&d)[kColumns / 2]) {
  uint32_t a[kDenseQuads * 2][4];
  start_products<kColumns, 0, kDenseQuads / 2>(slab, a, operand, d);
  start_products<kColumns, kDenseQuads / 2, kDenseQuads>(slab, a, operand, d);
  ptx::wgmma_wait<0>();
}

template <uint32_t kColumns>
__device__ __forceinline__ void multiply_slab(const DenseSlab<Bf16Page>& slab, uint64_t operand,
                                              float (&d)[kColumns / 2]) {
  using Operand = DenseOperand<Bf16Page>;
  constexpr uint32_t kStep = Operand::step_bytes(kColumns) / 16;
  uint32_t a[kDenseQuads][4];
#pragma unroll
  for (uint32_t i = 0; i < kDenseQuads; ++i) {
    a[i][0] = slab.quads[i].x;
    a[i][1] = slab.quads[i].y;
    a[i][2] = slab.quads[i].z;
    a[i][3] = slab.quads[i].w;
#pragma unroll
    for (uint32_t& word : a[i]) ptx::pin(word);
  }
  ptx::wgmma_fence();
#pragma unroll
  for (uint32_t step = 0; step < kDenseQuads; ++step) {
    ptx::wgmma_m64k16_bf16<kColumns>(d, a[step], operand + step * kStep);
    ptx::wgmma_m64k16_bf16<kColumns>(d, a[step], operand + (Operand::kSteps + step) * kStep);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
}

// The scales of the columns of a thread in scaled block `block` of a piece: 1 for BF16.
template <class Operand, uint32_t kColumns>
struct OperandScales {
  OperandScales() = default;
  __device__ __forceinline__ OperandScales(const std::byte* piece, uint32_t block) {
    if constexpr (Operand::kIsFp8) {
      const auto* scales = reinterpret_cast<const float2*>(piece + Operand::scales(kColumns) +
                                                           block * kColumns * sizeof(float));
#pragma unroll
      for (uint32_t j = 0; j < kColumns / 8; ++j) pairs[j] = scales[4 * j + threadIdx.x % 4];
    }
  }

  float2 pairs[kColumns / 8];
};

template <class Operand, uint32_t kColumns, class Page>
__device__ __forceinline__ void add_scaled(const DenseSlab<Page>& slab,
                                           const OperandScales<Operand, kColumns>& scales,
                                           const float (&d)[kColumns / 2],
                                           float (&sums)[kColumns / 2]) {
#pragma unroll
  for (uint32_t i = 0; i < kColumns / 2; ++i) {
    if constexpr (Operand::kIsFp8) {
      const float2 columns = scales.pairs[i / 4];
      const float row_scale = i % 4 < 2 ? slab.scales.x : slab.scales.y;
      sums[i] = __fmaf_rn(d[i], row_scale * (i % 2 == 0 ? columns.x : columns.y), sums[i]);
    } else {
      sums[i] += d[i];
    }
  }
}

// The product of a slab with columns that have several scales in it: from 0 on, block after block,
// by warps. As many columns are read at a time as there are registers for.
template <class Operand, uint32_t kColumns, class Leave>
__device__ __forceinline__ void multiply_blocks(const DenseSlab<Fp8Page>& bytes, uint32_t slab,
                                                const std::byte* piece,
                                                float (&product)[kColumns / 2],
                                                const Leave& leave) {
  constexpr uint32_t kBlocks = Operand::kSlabScales, kSteps = Operand::kBlockSteps / kBlocks;
  constexpr uint32_t kBatch = kColumns <= 16 ? kBlocks : 64 / kColumns;
  using Scales = OperandScales<Operand, kColumns>;
#pragma unroll
  for (uint32_t begin = 0; begin < kBlocks; begin += kBatch) {
    Scales scales[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) scales[i] = Scales(piece, slab * kBlocks + begin + i);
    const WarpPiece<Fp8Page, kColumns, kBatch * kSteps> columns(piece,
                                                                (slab * kBlocks + begin) * kSteps);
    if (begin + kBatch == kBlocks) leave();
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) {
      float d[kColumns / 2] = {};
#pragma unroll
      for (uint32_t step = 0; step < kSteps; ++step) {
        multiply_step(bytes, (begin + i) * kSteps + step, columns, i * kSteps + step, d);
      }
      add_scaled(bytes, scales[i], d, product);
    }
  }
}

// Adds the product of slab number `slab` of a stage with its piece to sums: by a fused
// multiply-add, or, where columns have several scales in a slab, their blocks' sum. `leave` is
// called when the stage has been read.
template <class Operand, uint32_t kColumns, class Page, class Leave>
__device__ __forceinline__ void add_products(const DenseSlab<Page>& bytes, uint32_t slab,
                                             const std::byte* piece, float (&sums)[kColumns / 2],
                                             const Leave& leave) {
  float d[kColumns / 2] = {};
  if constexpr (Operand::kSlabScales > 1) {
    multiply_blocks<Operand, kColumns>(bytes, slab, piece, d, leave);
#pragma unroll
    for (uint32_t i = 0; i < kColumns / 2; ++i) sums[i] += d[i];
  } else {
    const OperandScales<Operand, kColumns> scales(piece, slab);
    if constexpr (kColumns <= kDenseWarpColumns) {
      const WarpPiece<Page, kColumns> columns(piece, slab * Operand::kBlockSteps);
      leave();
      multiply_slab<kColumns>(bytes, columns, d);
    } else {
      const uint32_t operand =
          ptx::smem_address(piece) + slab * Operand::kBlockSteps * Operand::step_bytes(kColumns);
      multiply_slab<kColumns>(bytes, ptx::wgmma_descriptor(operand), d);
#pragma unroll
      for (float& value : d) ptx::wgmma_result(value);
      leave();
    }
    add_scaled(bytes, scales, d, sums);
  }
}

}  // namespace ultraspeed::cuda
