#include "cpu/vector_layout.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace ultraspeed::cpu {

using tensor::WeightFormat;

namespace {

constexpr size_t kBlockBytes = tensor::kMxBlockColumns / 2;

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

}  // namespace

bool fits_vector_layout(WeightFormat format, uint32_t rows, uint32_t cols,
                        std::span<const std::byte> packed) {
  switch (format) {
    case WeightFormat::kF32:
    case WeightFormat::kBf16:
      return true;
    case WeightFormat::kFp8Block128:
      return has_small_scales(rows, cols, packed);
    case WeightFormat::kMxfp4:
      return cols % tensor::kMxBlockColumns == 0;
  }
  return false;
}

void to_vector_layout(WeightFormat format, uint32_t rows, uint32_t cols,
                      std::span<std::byte> packed) {
  if (format != WeightFormat::kMxfp4) return;
  const uint64_t num_codes = tensor::code_bytes(format, rows, cols);
  for (uint64_t offset = 0; offset < num_codes; offset += kBlockBytes) {
    auto* block = reinterpret_cast<uint8_t*>(packed.data() + offset);
    std::array<uint8_t, kBlockBytes> split;
    for (uint32_t i = 0; i < kBlockBytes; ++i) {
      split[i] = static_cast<uint8_t>(tensor::mxfp4_code(block, i) |
                                      tensor::mxfp4_code(block, i + kBlockBytes) << 4);
    }
    std::copy(split.begin(), split.end(), block);
  }
}

}  // namespace ultraspeed::cpu
