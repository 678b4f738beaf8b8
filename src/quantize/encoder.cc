#include "quantize/encoder.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"
#include "tensor/weight_format.h"

namespace ultraspeed::quantize {
namespace {

using tensor::kFp8BlockColumns;
using tensor::kMxBlockColumns;

constexpr float kLargestE2m1 = 6;

float largest_magnitude(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// Takes the place of `value` by `rounded` into account.
void count_error(float value, float rounded, RowError* row, EncodedRows* out) {
  const double error = static_cast<double>(rounded) - static_cast<double>(value);
  row->values += static_cast<double>(value) * static_cast<double>(value);
  row->errors += error * error;
  out->largest_error = std::max(out->largest_error, static_cast<float>(std::abs(error)));
}

void encode_mx_block(ScaleRule rule, std::span<float> block, RowError* row, EncodedRows* out) {
  const uint8_t scale_code = choose_scale(rule, block);
  const float scale = tensor::kE8m0Values[scale_code];
  const float inverse = inverse_scale(scale_code);
  const float largest = largest_magnitude(block);
  ++out->num_blocks;
  out->num_clipped += largest * inverse > kLargestE2m1 ? 1 : 0;
  out->largest = std::max(out->largest, largest);
  out->scales.push_back(std::byte{scale_code});
  uint8_t codes[kMxBlockColumns];
  for (uint32_t i = 0; i < kMxBlockColumns; ++i) {
    codes[i] = tensor::e2m1_from_float(block[i] * inverse);
  }
  for (uint32_t i = 0; i < kMxBlockColumns; i += 2) {
    out->codes.push_back(static_cast<std::byte>(codes[i] | codes[i + 1] << 4));
  }
  for (uint32_t i = 0; i < kMxBlockColumns; ++i) {
    const float rounded = tensor::kE2m1Values[codes[i]] * scale;
    count_error(block[i], rounded, row, out);
    block[i] = rounded;
  }
}

}  // namespace

void EncodedRows::clear() {
  codes.clear();
  scales.clear();
  errors.clear();
  num_blocks = num_clipped = 0;
  largest = largest_error = 0;
}

void encode_mxfp4(ScaleRule rule, std::span<float> values, uint32_t columns, EncodedRows* out) {
  US_CHECK(columns % kMxBlockColumns == 0 && values.size() % columns == 0, "{} columns, {} values",
           columns, values.size());
  for (size_t first = 0; first < values.size(); first += columns) {
    RowError row;
    for (size_t i = first; i < first + columns; i += kMxBlockColumns) {
      encode_mx_block(rule, values.subspan(i, kMxBlockColumns), &row, out);
    }
    out->errors.push_back(row);
  }
}

void encode_fp8(std::span<float> values, uint32_t columns, EncodedRows* out) {
  const size_t rows = values.size() / columns;
  US_CHECK(rows >= 1 && rows <= kGridRows && values.size() % columns == 0, "{} rows", rows);
  std::vector<float> scales;
  for (uint32_t first = 0; first < columns; first += kFp8BlockColumns) {
    const uint32_t count = std::min(kFp8BlockColumns, columns - first);
    float largest = 0;
    for (size_t row = 0; row < rows; ++row) {
      largest = std::max(largest, largest_magnitude(values.subspan(row * columns + first, count)));
    }
    scales.push_back(tensor::e4m3_weight_scale(largest));
    out->largest = std::max(out->largest, largest);
    ++out->num_blocks;
  }
  const auto bytes = std::as_bytes(std::span(scales));
  out->scales.insert(out->scales.end(), bytes.begin(), bytes.end());
  for (size_t row = 0; row < rows; ++row) {
    RowError error;
    for (uint32_t column = 0; column < columns; ++column) {
      float& value = values[row * columns + column];
      const float scale = scales[column / kFp8BlockColumns];
      const uint8_t code = tensor::e4m3_from_float(value / scale);
      const float rounded = tensor::kE4m3Values[code] * scale;
      out->codes.push_back(std::byte{code});
      count_error(value, rounded, &error, out);
      value = rounded;
    }
    out->errors.push_back(error);
  }
}

}  // namespace ultraspeed::quantize
