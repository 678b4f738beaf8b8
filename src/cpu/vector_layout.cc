#include "cpu/vector_layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

namespace ultraspeed::cpu {

using tensor::WeightFormat;

namespace {

bool has_small_scales(uint32_t rows, uint32_t cols, std::span<const std::byte> packed) {
  constexpr auto kFormat = WeightFormat::kFp8Block128;
  const uint64_t count = rows * tensor::scale_columns(kFormat, cols);
  const std::byte* scales = packed.data() + tensor::code_bytes(kFormat, rows, cols);
  for (uint64_t i = 0; i < count; ++i) {
    float scale = 0;
    std::memcpy(&scale, scales + i * sizeof(scale), sizeof(scale));
    if (!(std::abs(scale) < 0x1p7F)) return false;
  }
  return true;
}

// Rows of `num_columns` elements, in place, a panel at a time.
template <class Element>
void to_panels(uint32_t rows, uint64_t num_columns, std::byte* bytes) {
  std::vector<Element> panel(kPanelRows * num_columns);
  const size_t panel_bytes = panel.size() * sizeof(Element);
  for (uint32_t first = 0; first < rows; first += kPanelRows, bytes += panel_bytes) {
    for (uint32_t row = 0; row < kPanelRows; ++row) {
      const std::byte* from = bytes + row * num_columns * sizeof(Element);
      for (uint64_t column = 0; column < num_columns; ++column) {
        std::memcpy(&panel[column * kPanelRows + row], from + column * sizeof(Element),
                    sizeof(Element));
      }
    }
    std::memcpy(bytes, panel.data(), panel_bytes);
  }
}

// Columns i and i + 16 of each block share a byte instead of columns 2 i and 2 i + 1.
void split_blocks(std::span<std::byte> codes) {
  constexpr size_t kBlockBytes = tensor::kMxBlockColumns / 2;
  for (uint64_t offset = 0; offset < codes.size(); offset += kBlockBytes) {
    auto* block = reinterpret_cast<uint8_t*>(codes.data() + offset);
    std::array<uint8_t, kBlockBytes> split;
    for (uint32_t i = 0; i < kBlockBytes; ++i) {
      split[i] = static_cast<uint8_t>(tensor::mxfp4_code(block, i) |
                                      tensor::mxfp4_code(block, i + kBlockBytes) << 4);
    }
    std::copy(split.begin(), split.end(), block);
  }
}

}  // namespace

bool fits_vector_layout(WeightFormat format, uint32_t rows, uint32_t cols,
                        std::span<const std::byte> packed) {
  switch (format) {
    case WeightFormat::kF32:
    case WeightFormat::kBf16:
      return true;
    case WeightFormat::kFp8Block128:
      return rows % kPanelRows == 0 && has_small_scales(rows, cols, packed);
    case WeightFormat::kMxfp4:
      return rows % kPanelRows == 0 && cols % tensor::kMxBlockColumns == 0;
  }
  return false;
}

void to_vector_layout(WeightFormat format, uint32_t rows, uint32_t cols,
                      std::span<std::byte> packed) {
  const uint64_t code_bytes = tensor::code_bytes(format, rows, cols);
  const uint64_t scale_columns = tensor::scale_columns(format, cols);
  if (format == WeightFormat::kFp8Block128) {
    to_panels<uint8_t>(rows, cols, packed.data());
    to_panels<float>(rows, scale_columns, packed.data() + code_bytes);
  } else if (format == WeightFormat::kMxfp4) {
    split_blocks(packed.first(code_bytes));
    to_panels<uint8_t>(rows, cols / 2, packed.data());
    to_panels<uint8_t>(rows, scale_columns, packed.data() + code_bytes);
  }
}

}  // namespace ultraspeed::cpu
