// IEEE 754 binary16. Conversion to it rounds to nearest, ties to even, and overflows to infinity.
#pragma once

#include <bit>
#include <cstdint>

#include "tensor/host_device.h"

namespace ultraspeed::tensor {

US_HOST_DEVICE constexpr float f16_to_float(uint16_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x8000u) << 16;
  const uint32_t exponent = (code >> 10) & 0x1fu;
  const uint32_t mantissa = code & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {  // subnormal: mantissa * 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

US_HOST_DEVICE constexpr uint16_t f16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude_bits = bits & 0x7fffffffu;
  if (magnitude_bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  const float magnitude = std::bit_cast<float>(magnitude_bits);
  if (magnitude >= 65520.0F) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x1p-14F) {  // subnormal range: adding 2^-1 rounds at the unit 2^-24
    const float shifted = magnitude + 0.5F;
    const uint32_t units = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5F);
    return static_cast<uint16_t>(sign | units);
  }
  const uint32_t rounded = magnitude_bits + 0xfffu + ((magnitude_bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

}  // namespace ultraspeed::tensor
