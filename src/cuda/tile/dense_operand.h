// Activations as operand B of the dense products. Host and device; the definition that other
// executors follow.
//
// For FP8 weights: of 128 neighbouring elements v of a column (token) with m = max |v|, the scale
// is 2^s with s = floor(log2 m) - 14, but at least -126; codes are f16(v * 2^-s), rounded to
// nearest, ties to even, so that the largest lies in 2^14 .. 2^15. An infinity or a NaN among them
// makes the scale a NaN and the codes 0: the block is NaN. Zeros have codes 0. For BF16 weights:
// two terms, hi = bf16(v) and lo = bf16(v - hi); v is hi + lo up to 2^-17 of itself. An infinity or
// a NaN becomes hi and lo NaN.
//
// Layout for n columns (8, 16, 32 or 64): pieces of a page's columns (dense_page.h), in bytes
//   FP8:  codes f16 [16 steps][n / 8][2 halves of 8 k][8 columns][8 k], scales f32 [2][n]: 2^s
//   BF16: hi bf16 [8 steps][n / 8][2][8][8], lo likewise
// Columns that take no part have codes 0 and scale 0, and so add exact zeros, as what fills up
// pages has (PagedRow).
//
// h, the input of down in FP8 experts, has a scale for each 32 neurons, those that one warp makes:
// scales f32 [8][n], s of 32 elements, otherwise as above, times a routing weight. A piece is a
// slot's 256 columns of a K-chunk: [slots][K-chunks] pieces.
#pragma once

#include <cstdint>

#include "cuda/tile/dense_page.h"
#include "tensor/host_device.h"

namespace ultraspeed::cuda {

// Of a piece; Page says for which weights. kScaleColumns elements share a scale.
template <class Page, uint32_t kScaleColumns = Page::kBlockColumns>
struct DenseOperand {
  static constexpr bool kIsFp8 = Page::kFormat == tensor::WeightFormat::kFp8Block128;
  static constexpr uint32_t kSteps = Page::kColumns / kDenseStepColumns;
  static constexpr uint32_t kBlockSteps = kSteps / kDenseSlabs;
  static constexpr uint32_t kTerms = kIsFp8 ? 1 : 2;
  static constexpr uint32_t kSlabScales = Page::kBlockColumns / kScaleColumns;

  US_HOST_DEVICE static constexpr uint32_t step_bytes(uint32_t columns) { return columns * 32; }
  // The 16-bit code of element k (of the piece), or of its term 0 (hi) or 1 (lo).
  US_HOST_DEVICE static constexpr uint32_t code(uint32_t columns, uint32_t term, uint32_t column,
                                                uint32_t k) {
    return (term * kSteps + k / kDenseStepColumns) * step_bytes(columns) + column / 8 * 256 +
           k % kDenseStepColumns / 8 * 128 + column % 8 * 16 + k % 8 * 2;
  }
  US_HOST_DEVICE static constexpr uint32_t scales(uint32_t columns) {
    return kTerms * kSteps * step_bytes(columns);
  }
  US_HOST_DEVICE static constexpr uint32_t piece_bytes(uint32_t columns) {
    return scales(columns) + (kIsFp8 ? kDenseSlabs * kSlabScales * columns * 4 : 0);
  }
  // The scale of element k (of the piece).
  US_HOST_DEVICE static constexpr uint32_t scale(uint32_t columns, uint32_t column, uint32_t k) {
    return scales(columns) + (k / kScaleColumns * columns + column) * 4;
  }
};
static_assert(DenseOperand<Fp8Page>::piece_bytes(8) == 4160 &&
              DenseOperand<Bf16Page>::piece_bytes(8) == 4096);

// Of h.
using ExpertOperand = DenseOperand<Fp8Page, kDenseTilePairs>;
static_assert(ExpertOperand::piece_bytes(8) == 4352);

// Bytes of the operand of `columns` columns with k elements in K-chunks.
template <class Page>
constexpr uint64_t dense_operand_bytes(uint32_t columns, uint32_t k, uint32_t num_chunks = 1) {
  return uint64_t{paged_row<Page>(k, num_chunks).pages()} *
         DenseOperand<Page>::piece_bytes(columns);
}

// By the format of the weights, kFp8Block128 or kBf16.
constexpr uint64_t dense_operand_bytes(tensor::WeightFormat format, uint32_t columns, uint32_t k,
                                       uint32_t num_chunks = 1) {
  return format == tensor::WeightFormat::kBf16
             ? dense_operand_bytes<Bf16Page>(columns, k, num_chunks)
             : dense_operand_bytes<Fp8Page>(columns, k, num_chunks);
}

}  // namespace ultraspeed::cuda
