#include "quantize/encoder.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/check.h"
#include "tensor/block_scale.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"
#include "tensor/weight_format.h"

namespace ultraspeed::quantize {
namespace {

using tensor::kFp8BlockColumns;
using tensor::kMxBlockColumns;

constexpr float kLargestE2m1 = 6;

// As bits, whose order is that of the magnitudes: integers that compilers compare in vectors.
float largest_magnitude(std::span<const float> values) {
  uint32_t largest = 0;
  for (const float value : values) largest = std::max(largest, tensor::magnitude_bits(value));
  return std::bit_cast<float>(largest);
}

// Sums over a row in four lanes, lane i adding values i, i + 4, i + 8, ..., which are added in
// order.
class ErrorSum {
 public:
  // Takes the place of `values` by `rounded`, their next ones, into account. As many of both.
  void add(std::span<const float> values, std::span<const float> rounded) {
    const size_t whole = values.size() / kLanes * kLanes;
    const float *exact = values.data(), *nearest = rounded.data();
    for (size_t i = 0; i < whole; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) add(exact[i + lane], nearest[i + lane], lane);
    }
    for (size_t i = whole; i < values.size(); ++i) add(exact[i], nearest[i], i - whole);
  }

  void finish(EncodedRows* out) const {
    RowError row;
    for (size_t lane = 0; lane < kLanes; ++lane) {
      row.values += values_[lane];
      row.errors += errors_[lane];
      out->largest_error = std::max(out->largest_error, std::bit_cast<float>(largest_[lane]));
    }
    out->errors.push_back(row);
  }

 private:
  static constexpr size_t kLanes = 4;

  void add(float value, float rounded, size_t lane) {
    const auto exact = static_cast<double>(value);
    const double error = static_cast<double>(rounded) - exact;
    values_[lane] += exact * exact;
    errors_[lane] += error * error;
    largest_[lane] = std::max(largest_[lane], tensor::magnitude_bits(rounded - value));
  }

  std::array<double, kLanes> values_ = {}, errors_ = {};
  std::array<uint32_t, kLanes> largest_ = {};  // bits of the largest error
};

// One block: codes to `codes` [16], the scale's to `scale_code`.
void encode_mx_block(ScaleRule rule, std::span<float> block, std::byte* codes,
                     std::byte* scale_code, ErrorSum* errors, EncodedRows* out) {
  const uint8_t chosen = choose_scale(rule, block);
  const float scale = tensor::kE8m0Values[chosen];
  const float inverse = inverse_scale(chosen);
  const float largest = largest_magnitude(block);
  ++out->num_blocks;
  out->num_clipped += largest * inverse > kLargestE2m1 ? 1 : 0;
  out->largest = std::max(out->largest, largest);
  *scale_code = std::byte{chosen};
  std::array<uint8_t, kMxBlockColumns> all;
  std::array<float, kMxBlockColumns> rounded;
  for (uint32_t i = 0; i < kMxBlockColumns; ++i) {
    all[i] = tensor::e2m1_from_float(block[i] * inverse);
  }
  for (uint32_t i = 0; i < kMxBlockColumns; ++i) rounded[i] = tensor::kE2m1Values[all[i]] * scale;
  for (uint32_t i = 0; i < kMxBlockColumns; i += 2) {
    codes[i / 2] = static_cast<std::byte>(all[i] | all[i + 1] << 4);
  }
  errors->add(block, rounded);
  std::copy(rounded.begin(), rounded.end(), block.begin());
}

// Makes room behind what is there.
std::byte* append(std::vector<std::byte>* bytes, size_t count) {
  bytes->resize(bytes->size() + count);
  return bytes->data() + bytes->size() - count;
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
  std::byte* codes = append(&out->codes, values.size() / 2);
  std::byte* scales = append(&out->scales, values.size() / kMxBlockColumns);
  for (size_t first = 0; first < values.size(); first += columns) {
    ErrorSum errors;
    for (size_t i = first; i < first + columns; i += kMxBlockColumns) {
      encode_mx_block(rule, values.subspan(i, kMxBlockColumns), codes, scales, &errors, out);
      codes += kMxBlockColumns / 2;
      ++scales;
    }
    errors.finish(out);
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
  std::byte* codes = append(&out->codes, values.size());
  std::vector<float> rounded(columns);
  for (size_t row = 0; row < rows; ++row) {
    const std::span<float> exact = values.subspan(row * columns, columns);
    for (uint32_t column = 0; column < columns; ++column) {
      const float scale = scales[column / kFp8BlockColumns];
      const uint8_t code = tensor::e4m3_from_float(exact[column] / scale);
      rounded[column] = tensor::kE4m3Values[code] * scale;
      *codes++ = std::byte{code};
    }
    ErrorSum errors;
    errors.add(exact, rounded);
    errors.finish(out);
    std::copy(rounded.begin(), rounded.end(), exact.begin());
  }
}

}  // namespace ultraspeed::quantize
