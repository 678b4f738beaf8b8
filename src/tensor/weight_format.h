// How a weight matrix is packed in memory: the canonical forms that the loader writes and the
// executors read. docs/weights_format.md describes them; OCP MX v1.0 section 5 defines MXFP4.
#pragma once

#include <cstdint>
#include <string_view>

#include "tensor/mxfp4.h"

namespace ultraspeed::tensor {

// A row-major matrix w of `rows` x `columns`:
enum class WeightFormat : uint8_t {
  kF32,          // f32 [rows, columns]
  kBf16,         // bf16 [rows, columns]
  kFp8Block128,  // e4m3 [rows, columns], then f32 scales [rows, ceil(columns / 128)]:
                 //   w[r, c] = e4m3(code[r, c]) * scale[r, c / 128]
  kMxfp4,        // e2m1 pairs [rows, columns / 2], then e8m0 scales [rows, columns / 32]:
                 //   w[r, c] = e2m1(code[r, c]) * 2^(scale[r, c / 32] - 127)
};

inline constexpr uint32_t kFp8BlockColumns = 128;

constexpr std::string_view weight_format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "F32";
    case WeightFormat::kBf16:
      return "BF16";
    case WeightFormat::kFp8Block128:
      return "FP8 (e4m3, 128 columns a scale)";
    case WeightFormat::kMxfp4:
      return "MXFP4";
  }
  return "?";
}

// Scales in one row; 0 for the unscaled formats.
constexpr uint64_t scale_columns(WeightFormat format, uint64_t columns) {
  switch (format) {
    case WeightFormat::kFp8Block128:
      return (columns + kFp8BlockColumns - 1) / kFp8BlockColumns;
    case WeightFormat::kMxfp4:
      return (columns + kMxBlockColumns - 1) / kMxBlockColumns;
    default:
      return 0;
  }
}

// Bytes of the elements alone, which is also the byte offset of the scales.
constexpr uint64_t code_bytes(WeightFormat format, uint64_t rows, uint64_t columns) {
  switch (format) {
    case WeightFormat::kF32:
      return rows * columns * sizeof(float);
    case WeightFormat::kBf16:
      return rows * columns * sizeof(uint16_t);
    case WeightFormat::kFp8Block128:
      return rows * columns;
    case WeightFormat::kMxfp4:
      return rows * ((columns + 1) / 2);
  }
  return 0;
}

constexpr uint64_t scale_bytes(WeightFormat format, uint64_t rows, uint64_t columns) {
  const uint64_t scale_size_bytes = format == WeightFormat::kFp8Block128 ? sizeof(float) : 1;
  return rows * scale_columns(format, columns) * scale_size_bytes;
}

// Elements and scales: what one packed matrix occupies.
constexpr uint64_t packed_bytes(WeightFormat format, uint64_t rows, uint64_t columns) {
  return code_bytes(format, rows, columns) + scale_bytes(format, rows, columns);
}

}  // namespace ultraspeed::tensor
