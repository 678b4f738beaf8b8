// FP8 E4M3 ("e4m3fn": no infinities, 0x7f and 0xff are NaN, largest 448), OCP OFP8 v1.0 section 5.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "tensor/host_device.h"

namespace ultraspeed::tensor {

inline constexpr float kE4m3Max = 448.0F;
inline constexpr uint8_t kE4m3Nan = 0x7f;

US_HOST_DEVICE constexpr float e4m3_to_float(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24;
  const uint32_t exponent = (code >> 3) & 0xfu;
  const uint32_t mantissa = code & 0x7u;
  if (exponent == 0xfu && mantissa == 0x7u) {
    return std::bit_cast<float>(sign | 0x7fc00000u);
  }
  if (exponent == 0) {  // subnormal: mantissa * 2^-9
    const float magnitude = static_cast<float>(mantissa) * 0x1p-9F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 120u) << 23) | (mantissa << 20));
}

// Rounds to nearest, ties to even; saturates to +-448; NaN stays NaN.
US_HOST_DEVICE constexpr uint8_t e4m3_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint8_t sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const uint32_t magnitude_bits = bits & 0x7fffffffu;
  if (magnitude_bits > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  const float magnitude = std::bit_cast<float>(magnitude_bits);
  if (magnitude >= kE4m3Max) return static_cast<uint8_t>(sign | 0x7eu);
  if (magnitude < 0x1p-6F) {  // subnormal range: adding 2^14 rounds at the unit 2^-9
    const float shifted = magnitude + 0x1p14F;
    const uint32_t units = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0x1p14F);
    return static_cast<uint8_t>(sign | units);
  }
  const uint32_t rounded = magnitude_bits + 0x7ffffu + ((magnitude_bits >> 20) & 1u);
  const uint32_t code = (rounded >> 20) - (120u << 3);
  return static_cast<uint8_t>(sign | (code > 0x7eu ? 0x7eu : code));
}

// The scale of a block of weights of which the largest magnitude becomes the largest code.
// Zeros have the scale 1; a scale below the normal numbers would lose bits of its own.
US_HOST_DEVICE constexpr float e4m3_weight_scale(float largest) {
  if (largest == 0) return 1;
  const float scale = largest / kE4m3Max;
  constexpr float kLeast = 0x1p-126F;
  return scale < kLeast ? kLeast : scale;
}

inline constexpr std::array<float, 256> kE4m3Values = [] {
  std::array<float, 256> values = {};
  for (uint32_t code = 0; code < 256; ++code) {
    values[code] = e4m3_to_float(static_cast<uint8_t>(code));
  }
  return values;
}();

}  // namespace ultraspeed::tensor
