// The layout of FP8 and MXFP4 matrices for products with int8 activations. Panels of 16 rows, cut
// into blocks of 32 columns; a block's codes are vectors of 16 dwords, dword r of row r, with four
// neighbouring columns each (what one VPDPBUSD of a row takes). All codes stand before all scales.
//
//   FP8:   8 vectors a block: the code + kInt8Bias of columns 4 q to 4 q + 3 in vector q. The e4m3
//          values were rounded once to multiples of a power of two that brings the block's largest
//          to [64, 120]; the scale, that times the matrix's, is f32 [panel][block][16 rows].
//   MXFP4: 4 vectors a block: e2m1 codes, of columns 8 q to 8 q + 3 in the low nibbles and of the
//          next four in the high nibbles; a scale is e8m0, [panel][block][16 rows].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "cpu/int8_block.h"
#include "cpu/machine.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cpu {

// Whether a matrix can have this layout: FP8 or MXFP4, whole blocks. Rows do not count (the last
// panel is filled up with zeros), so every cut of rows over ranks gives the same answer.
bool fits_int8_layout(tensor::WeightFormat format, uint32_t cols);

// Bytes of a matrix in this layout, and of its codes alone.
uint64_t int8_layout_bytes(tensor::WeightFormat format, uint64_t rows, uint64_t cols);
uint64_t int8_code_bytes(tensor::WeightFormat format, uint64_t rows, uint64_t cols);

// Rearranges in place: `memory` begins with the packed matrix and is long enough for both forms.
// REQUIRES: it fits.
void to_int8_layout(tensor::WeightFormat format, uint32_t rows, uint32_t cols,
                    std::span<std::byte> memory);

// Where the parts of a matrix in this layout lie.
struct Int8Parts {
  const uint8_t* codes = nullptr;
  const std::byte* scales = nullptr;
  uint64_t blocks = 0;  // of a row
};
Int8Parts int8_parts(const Matrix& matrix);

// 32 columns of a row: weight = code * scale. The codes of MXFP4 are twice the e2m1 values.
struct Int8Weights {
  std::array<int8_t, kInt8BlockColumns> codes;
  float scale = 0;
};
Int8Weights int8_weights(const Matrix& matrix, uint32_t row, uint32_t block);

}  // namespace ultraspeed::cpu
