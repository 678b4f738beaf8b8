// What encoders share (encoder.h): sums of errors, and a block of MXFP4 while it is made.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quantize/encoder.h"
#include "quantize/scale_rule.h"
#include "tensor/block_scale.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::quantize {

// As bits, whose order is that of the magnitudes: integers that compilers compare in vectors.
inline float largest_magnitude(std::span<const float> values) {
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

// Makes room behind what is there.
inline std::byte* append(std::vector<std::byte>* bytes, size_t count) {
  bytes->resize(bytes->size() + count);
  return bytes->data() + bytes->size() - count;
}

// 32 columns of a row.
struct MxBlock {
  float scale = 1, inverse = 1;
  std::array<uint8_t, tensor::kMxBlockColumns> codes;
  std::array<float, tensor::kMxBlockColumns> rounded;

  // The scale by what is to be rounded, of which `largest` is the largest magnitude.
  void choose_scale(ScaleRule rule, std::span<const float> values, float largest,
                    std::byte* scale_code, EncodedRows* out) {
    const uint8_t chosen = quantize::choose_scale(rule, values);
    scale = tensor::kE8m0Values[chosen];
    inverse = inverse_scale(chosen);
    *scale_code = std::byte{chosen};
    ++out->num_blocks;
    out->num_clipped += largest * inverse > tensor::kE2m1Values[7] ? 1 : 0;
  }

  // Codes to `packed` [16]; the block's numbers become what the codes stand for.
  void store(std::span<float> block, std::byte* packed, ErrorSum* errors) const {
    for (uint32_t i = 0; i < tensor::kMxBlockColumns; i += 2) {
      packed[i / 2] = static_cast<std::byte>(codes[i] | codes[i + 1] << 4);
    }
    errors->add(block, rounded);
    std::copy(rounded.begin(), rounded.end(), block.begin());
  }
};

}  // namespace ultraspeed::quantize
