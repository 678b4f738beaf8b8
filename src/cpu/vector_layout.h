// The layout that the vector kernels read. F32 and BF16 matrices keep the packed form of
// docs/weights_format.md. FP8 and MXFP4 matrices lie in panels of 16 rows: a byte of each row, then
// the next byte of each row, and so the scales, so that a column of a panel is one load and the
// sums of its rows never have to be gathered from the lanes of a vector. Byte i of an MXFP4 block
// has the codes of columns i (low nibble) and i + 16 (high nibble).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/weight_format.h"

namespace ultraspeed::cpu {

inline constexpr uint32_t kPanelRows = 16;

// Where element `column` of `row` lies in panels with `num_columns` elements a row.
inline uint64_t panel_index(uint32_t row, uint64_t column, uint64_t num_columns) {
  return (row / kPanelRows * num_columns + column) * kPanelRows + row % kPanelRows;
}

// Whether the kernels take a packed matrix [rows, cols]: whole panels, whole blocks of MXFP4; FP8
// scales below 2^7, which they multiply by 2^120.
bool fits_vector_layout(tensor::WeightFormat format, uint32_t rows, uint32_t cols,
                        std::span<const std::byte> packed);

// Rearranges it in place. REQUIRES: it fits.
void to_vector_layout(tensor::WeightFormat format, uint32_t rows, uint32_t cols,
                      std::span<std::byte> packed);

}  // namespace ultraspeed::cpu
