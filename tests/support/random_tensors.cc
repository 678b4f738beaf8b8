#include "support/random_tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "base/check.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::test {
namespace {

using tensor::WeightFormat;

constexpr uint32_t kBlock = 128;

template <class Value>
std::vector<std::byte> to_bytes(const std::vector<Value>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(Value));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

uint32_t ceil_div(uint32_t value, uint32_t divisor) {
  return (value + divisor - 1) / divisor;
}

// The exponent of the power of two nearest to 1 / (sqrt(columns) * code_deviation).
int scale_exponent(uint32_t columns, float code_deviation) {
  return static_cast<int>(
      std::lround(-std::log2(std::sqrt(static_cast<float>(columns)) * code_deviation)));
}

}  // namespace

float RandomTensors::normal() {
  const uint64_t bits = random_();
  uint64_t sum = 0;  // of four 16-bit uniforms, each of variance 1 / 12
  for (int shift = 0; shift < 64; shift += 16) sum += bits >> shift & 0xffff;
  constexpr float kSqrt3 = 1.7320508F;
  return (static_cast<float>(sum) * 0x1p-16F - 2.0F) * kSqrt3;
}

DenseWeight RandomTensors::plain(const std::string& name, std::vector<uint64_t> shape,
                                 WeightFormat format, float mean, float deviation,
                                 std::vector<StoredTensor>& tensors) {
  DenseWeight dense;
  dense.rows = shape.size() == 2 ? static_cast<uint32_t>(shape[0]) : 1;
  dense.columns = static_cast<uint32_t>(shape.back());
  dense.values.resize(size_t{dense.rows} * dense.columns);
  std::vector<uint16_t> codes;
  for (float& value : dense.values) {
    value = mean + deviation * normal();
    if (format == WeightFormat::kF32) continue;
    codes.push_back(tensor::bf16_from_float(value));
    value = tensor::bf16_to_float(codes.back());
  }
  const bool is_f32 = format == WeightFormat::kF32;
  tensors.push_back({name, is_f32 ? "F32" : "BF16", std::move(shape),
                     is_f32 ? to_bytes(dense.values) : to_bytes(codes)});
  return dense;
}

DenseWeight RandomTensors::fp8(const std::string& module, uint32_t rows, uint32_t columns,
                               uint32_t grid_chunks, std::vector<StoredTensor>& tensors) {
  US_CHECK(rows % grid_chunks == 0);
  const uint32_t chunk_rows = rows / grid_chunks;
  const uint32_t grid_rows = grid_chunks * ceil_div(chunk_rows, kBlock);
  const uint32_t grid_columns = ceil_div(columns, kBlock);
  const int exponent = scale_exponent(columns, 32.0F);
  std::vector<float> scales;
  for (uint32_t i = 0; i < grid_rows * grid_columns; ++i) {
    // Not a power of two, but few enough bits that code * scale stays exact.
    scales.push_back(std::ldexp(1.0F + static_cast<float>(below(8)) / 8.0F, exponent));
  }
  DenseWeight dense = {rows, columns, {}};
  std::vector<uint8_t> codes;
  for (uint32_t row = 0; row < rows; ++row) {
    const uint32_t grid_row =
        row / chunk_rows * ceil_div(chunk_rows, kBlock) + row % chunk_rows / kBlock;
    for (uint32_t column = 0; column < columns; ++column) {
      codes.push_back(tensor::e4m3_from_float(32.0F * normal()));
      dense.values.push_back(tensor::e4m3_to_float(codes.back()) *
                             scales[grid_row * grid_columns + column / kBlock]);
    }
  }
  tensors.push_back({module + ".weight", "F8_E4M3", {rows, columns}, to_bytes(codes)});
  std::vector<uint16_t> bf16_scales(scales.size());
  std::ranges::transform(scales, bf16_scales.begin(), tensor::bf16_from_float);
  tensors.push_back({module + ".weight_scale_inv",
                     has_bf16_scales_ ? "BF16" : "F32",
                     {grid_rows, grid_columns},
                     has_bf16_scales_ ? to_bytes(bf16_scales) : to_bytes(scales)});
  return dense;
}

DenseWeight RandomTensors::mxfp4(const std::string& module, uint32_t rows, uint32_t columns,
                                 std::vector<StoredTensor>& tensors) {
  const uint32_t scale_columns = columns / 32;
  const int exponent = scale_exponent(columns, 3.0F);
  std::vector<uint8_t> scales;
  for (uint32_t i = 0; i < rows * scale_columns; ++i) {
    scales.push_back(static_cast<uint8_t>(127 + exponent - static_cast<int>(below(2))));
  }
  DenseWeight dense = {rows, columns, {}};
  std::vector<uint8_t> pairs;
  for (uint32_t row = 0; row < rows; ++row) {
    for (uint32_t column = 0; column < columns; ++column) {
      const uint32_t code = below(16);
      if (column % 2 == 0) {
        pairs.push_back(static_cast<uint8_t>(code));
      } else {
        pairs.back() = static_cast<uint8_t>(pairs.back() | code << 4);
      }
      const int scale = scales[row * scale_columns + column / 32];
      dense.values.push_back(std::ldexp(tensor::kE2m1Values[code], scale - 127));
    }
  }
  tensors.push_back({module + ".weight", "U8", {rows, columns / 2}, to_bytes(pairs)});
  tensors.push_back({module + ".weight_scale", "U8", {rows, scale_columns}, to_bytes(scales)});
  return dense;
}

DenseWeight RandomTensors::matrix(const std::string& module, uint32_t rows, uint32_t columns,
                                  WeightFormat format, uint32_t grid_chunks,
                                  std::vector<StoredTensor>& tensors) {
  if (format == WeightFormat::kFp8Block128) return fp8(module, rows, columns, grid_chunks, tensors);
  if (format == WeightFormat::kMxfp4) return mxfp4(module, rows, columns, tensors);
  const float deviation = 1.0F / std::sqrt(static_cast<float>(columns));
  return plain(module + ".weight", {rows, columns}, format, 0.0F, deviation, tensors);
}

DenseWeight RandomTensors::vector(const std::string& name, uint32_t size, WeightFormat format,
                                  float mean, float deviation, std::vector<StoredTensor>& tensors) {
  return plain(name, {size}, format, mean, deviation, tensors);
}

}  // namespace ultraspeed::test
