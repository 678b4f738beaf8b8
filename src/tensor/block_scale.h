// Power-of-two scales of rounded activations and caches (docs/numerics.md section 2): neighbouring
// values v share a scale 2^s that depends on m = max |v| alone, and codes are those of v * 2^-s,
// rounded to nearest, ties to even. An infinity or a NaN among them makes all of them NaN. The one
// definition, for every executor.
#pragma once

#include <bit>
#include <cstdint>

#include "tensor/host_device.h"

namespace ultraspeed::tensor {

// Columns of an input's blocks.
inline constexpr uint32_t kE4m3BlockColumns = 32;
inline constexpr uint32_t kF16BlockColumns = 128;

struct BlockScale {
  int32_t exponent;  // s, from -126 on; 0 where is_nan
  bool is_nan;
};

// m as bits: those of infinity and NaN are larger than all others.
inline constexpr uint32_t kInfinityBits = 0x7f800000;
US_HOST_DEVICE constexpr uint32_t magnitude_bits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

// For e4m3 codes: the least s >= -126 with m <= 448 * 2^s, so that nothing saturates.
US_HOST_DEVICE constexpr BlockScale e4m3_scale(uint32_t largest_magnitude_bits) {
  if (largest_magnitude_bits >= kInfinityBits) return {0, true};
  // 448 = 1.75 * 2^8: a fraction above .75 carries into the exponent.
  const int32_t exponent = static_cast<int32_t>((largest_magnitude_bits + 0x1fffffu) >> 23) - 135;
  return {exponent < -126 ? -126 : exponent, false};
}

// For binary16 codes: s = floor(log2 m) - 14, which brings m to [2^14, 2^15); at least -126, which
// changes no value: its unit 2^-150 divides every binary32.
US_HOST_DEVICE constexpr BlockScale f16_scale(uint32_t largest_magnitude_bits) {
  if (largest_magnitude_bits >= kInfinityBits) return {0, true};
  const int32_t exponent = static_cast<int32_t>(largest_magnitude_bits >> 23) - 141;
  return {exponent < -126 ? -126 : exponent, false};
}

// 2^exponent for exponents of normal floats.
US_HOST_DEVICE constexpr float power_of_two(int32_t exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

}  // namespace ultraspeed::tensor
