#include "cpu/int8_layout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/vector_layout.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cpu {

using tensor::WeightFormat;

namespace {

constexpr uint32_t kColumns = kInt8BlockColumns;

// The nearest integer, ties to even, of a value below 2^22: a float at 1.5 * 2^23 has units.
int32_t round_to_int(float value) {
  constexpr float kUnits = 0x1.8p23F;
  return std::bit_cast<int32_t>(value + kUnits) - std::bit_cast<int32_t>(kUnits);
}

// codes = e4m3 values / unit, rounded; returns the unit. As a power of two that brings the largest
// magnitude to [64, 120] it leaves all from an eighth of that range on as they are.
float round_block(const uint8_t* e4m3, std::array<int8_t, kColumns>* codes) {
  float most = 0;
  for (uint32_t i = 0; i < kColumns; ++i) {
    most = std::max(most, std::abs(tensor::kE4m3Values[e4m3[i]]));
  }
  const uint32_t exponent_bits = std::bit_cast<uint32_t>(most) & 0x7f800000u;
  const float unit = most == 0 ? 1 : std::bit_cast<float>(exponent_bits) * 0x1p-6F;
  const float inverse = 1 / unit;
  for (uint32_t i = 0; i < kColumns; ++i) {
    (*codes)[i] = static_cast<int8_t>(round_to_int(tensor::kE4m3Values[e4m3[i]] * inverse));
  }
  return unit;
}

// Byte of a block's codes for column `column` of row `row`, both within the block.
uint32_t fp8_place(uint32_t row, uint32_t column) {
  return column / 4 * 64 + row * 4 + column % 4;
}
uint32_t mxfp4_place(uint32_t row, uint32_t column) {
  return column / 8 * 64 + row * 4 + column % 4;
}
bool is_high_nibble(uint32_t column) {
  return column / 4 % 2 != 0;
}

uint64_t padded(uint64_t rows) {
  return (rows + kPanelRows - 1) / kPanelRows * kPanelRows;
}

// Calls convert(first row, its stored codes, the panel's new place) for each panel, of which a row
// has `row_bytes` of codes before and after. Missing rows of the last panel are zeros.
template <class Convert>
void convert_panels(uint32_t rows, uint64_t row_bytes, std::byte* memory, Convert convert) {
  std::vector<uint8_t> stored(kPanelRows * row_bytes);
  for (uint32_t first = 0; first < rows; first += kPanelRows) {
    auto* codes = reinterpret_cast<uint8_t*>(memory) + first * row_bytes;
    const uint64_t num_rows = std::min(kPanelRows, rows - first);
    std::copy_n(codes, num_rows * row_bytes, stored.data());
    std::fill(stored.begin() + static_cast<ptrdiff_t>(num_rows * row_bytes), stored.end(),
              uint8_t{0});
    convert(first, stored.data(), codes);
  }
}

// The scales of the packed form, [padded rows, scale columns]; those of missing rows are zeros.
template <class Scale>
std::vector<Scale> stored_scales(WeightFormat format, uint32_t rows, uint32_t cols,
                                 const std::byte* memory) {
  std::vector<Scale> scales(padded(rows) * tensor::scale_columns(format, cols));
  std::memcpy(scales.data(), memory + tensor::code_bytes(format, rows, cols),
              tensor::scale_bytes(format, rows, cols));
  return scales;
}

void fp8_to_int8(uint32_t rows, uint32_t cols, std::byte* memory) {
  constexpr auto kFormat = WeightFormat::kFp8Block128;
  const auto old_scales = stored_scales<float>(kFormat, rows, cols, memory);
  const uint64_t old_columns = tensor::scale_columns(kFormat, cols);
  const uint64_t blocks = cols / kColumns;
  std::vector<float> scales(padded(rows) * blocks);
  convert_panels(rows, cols, memory, [&](uint32_t first, const uint8_t* stored, uint8_t* codes) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      for (uint32_t block = 0; block < blocks; ++block) {
        const uint64_t old_column = block * kColumns / tensor::kFp8BlockColumns;
        std::array<int8_t, kColumns> rounded;
        const float unit = round_block(stored + row * uint64_t{cols} + block * kColumns, &rounded);
        scales[panel_index(first + row, block, blocks)] =
            old_scales[(first + row) * old_columns + old_column] * unit;
        uint8_t* out = codes + uint64_t{block} * kColumns * kPanelRows;
        for (uint32_t column = 0; column < kColumns; ++column) {
          out[fp8_place(row, column)] = static_cast<uint8_t>(rounded[column] + kInt8Bias);
        }
      }
    }
  });
  std::memcpy(memory + int8_code_bytes(kFormat, rows, cols), scales.data(),
              scales.size() * sizeof(float));
}

void mxfp4_to_int8(uint32_t rows, uint32_t cols, std::byte* memory) {
  constexpr auto kFormat = WeightFormat::kMxfp4;
  const auto old_scales = stored_scales<uint8_t>(kFormat, rows, cols, memory);
  const uint64_t row_bytes = cols / 2;
  convert_panels(rows, row_bytes, memory, [&](uint32_t, const uint8_t* stored, uint8_t* codes) {
    std::fill_n(codes, kPanelRows * row_bytes, uint8_t{0});
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      for (uint32_t column = 0; column < cols; ++column) {
        const uint32_t code = tensor::mxfp4_code(stored + row * row_bytes, column);
        uint8_t* block = codes + uint64_t{column / kColumns} * kColumns / 2 * kPanelRows;
        const uint32_t in_block = column % kColumns;
        block[mxfp4_place(row, in_block)] |=
            static_cast<uint8_t>(is_high_nibble(in_block) ? code << 4 : code);
      }
    }
  });
  const uint64_t blocks = cols / kColumns;
  auto* scales = reinterpret_cast<uint8_t*>(memory) + int8_code_bytes(kFormat, rows, cols);
  for (uint32_t row = 0; row < padded(rows); ++row) {
    for (uint64_t block = 0; block < blocks; ++block) {
      scales[panel_index(row, block, blocks)] = old_scales[row * blocks + block];
    }
  }
}

}  // namespace

bool fits_int8_layout(WeightFormat format, uint32_t cols) {
  const bool is_scaled = format == WeightFormat::kFp8Block128 || format == WeightFormat::kMxfp4;
  return is_scaled && cols % kColumns == 0;
}

uint64_t int8_code_bytes(WeightFormat format, uint64_t rows, uint64_t cols) {
  return tensor::code_bytes(format, padded(rows), cols);
}

uint64_t int8_layout_bytes(WeightFormat format, uint64_t rows, uint64_t cols) {
  const uint64_t scale_size_bytes =
      format == WeightFormat::kFp8Block128 ? sizeof(float) : sizeof(uint8_t);
  return int8_code_bytes(format, rows, cols) + padded(rows) * (cols / kColumns) * scale_size_bytes;
}

void to_int8_layout(WeightFormat format, uint32_t rows, uint32_t cols,
                    std::span<std::byte> memory) {
  if (format == WeightFormat::kFp8Block128) return fp8_to_int8(rows, cols, memory.data());
  mxfp4_to_int8(rows, cols, memory.data());
}

Int8Parts int8_parts(const Matrix& matrix) {
  return {reinterpret_cast<const uint8_t*>(matrix.data),
          matrix.data + int8_code_bytes(matrix.format, matrix.rows, matrix.cols),
          matrix.cols / kColumns};
}

Int8Weights int8_weights(const Matrix& matrix, uint32_t row, uint32_t block) {
  const Int8Parts parts = int8_parts(matrix);
  const bool is_fp8 = matrix.format == WeightFormat::kFp8Block128;
  const uint64_t block_bytes = uint64_t{kPanelRows} * (is_fp8 ? kColumns : kColumns / 2);
  const uint8_t* codes = parts.codes + (row / kPanelRows * parts.blocks + block) * block_bytes;
  const uint64_t scale = panel_index(row, block, parts.blocks);
  Int8Weights weights;
  for (uint32_t column = 0; column < kColumns; ++column) {
    if (is_fp8) {
      const int code = codes[fp8_place(row % kPanelRows, column)];
      weights.codes[column] = static_cast<int8_t>(code - kInt8Bias);
    } else {
      const uint32_t pair = codes[mxfp4_place(row % kPanelRows, column)];
      const uint32_t code = is_high_nibble(column) ? pair >> 4 : pair & 15;
      weights.codes[column] = static_cast<int8_t>(2 * tensor::kE2m1Values[code]);
    }
  }
  if (is_fp8) {
    std::memcpy(&weights.scale, parts.scales + scale * sizeof(float), sizeof(float));
  } else {
    weights.scale = tensor::e8m0_to_float(static_cast<uint8_t>(parts.scales[scale])) / 2;
  }
  return weights;
}

}  // namespace ultraspeed::cpu
