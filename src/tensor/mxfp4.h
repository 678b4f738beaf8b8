// MXFP4 (OCP Microscaling v1.0 section 5.3): blocks of 32 E2M1 codes that share one E8M0 scale.
// A byte holds two codes, the low nibble is the even column.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "tensor/host_device.h"

namespace ultraspeed::tensor {

inline constexpr uint32_t kMxBlockColumns = 32;
inline constexpr uint8_t kE8m0Nan = 255;

// E2M1: bit 3 is the sign, the magnitudes are {0, .5, 1, 1.5, 2, 3, 4, 6}.
inline constexpr std::array<float, 16> kE2m1Values = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,
                                                      4.0F,  6.0F,  -0.0F, -0.5F, -1.0F, -1.5F,
                                                      -2.0F, -3.0F, -4.0F, -6.0F};

// Rounds to nearest, ties to even; saturates to +-6; keeps the sign of zero. REQUIRES: no NaN.
US_HOST_DEVICE constexpr uint8_t e2m1_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const float magnitude = std::bit_cast<float>(bits & 0x7fffffffu);
  // How many of the midpoints between neighbours are passed; a tie goes to the even code.
  const uint32_t code =
      static_cast<uint32_t>(magnitude > 0.25F) + static_cast<uint32_t>(magnitude >= 0.75F) +
      static_cast<uint32_t>(magnitude > 1.25F) + static_cast<uint32_t>(magnitude >= 1.75F) +
      static_cast<uint32_t>(magnitude > 2.5F) + static_cast<uint32_t>(magnitude >= 3.5F) +
      static_cast<uint32_t>(magnitude > 5.0F);
  return static_cast<uint8_t>((bits >> 28 & 8u) | code);
}

// E8M0: 2^(code - 127); code 0 is 2^-127 (a binary32 subnormal), 255 is NaN.
US_HOST_DEVICE constexpr float e8m0_to_float(uint8_t code) {
  if (code == kE8m0Nan) return std::bit_cast<float>(0x7fc00000u);
  if (code == 0) return 0x1p-127F;
  return std::bit_cast<float>(static_cast<uint32_t>(code) << 23);
}

inline constexpr std::array<float, 256> kE8m0Values = [] {
  std::array<float, 256> values = {};
  for (uint32_t code = 0; code < 256; ++code) {
    values[code] = e8m0_to_float(static_cast<uint8_t>(code));
  }
  return values;
}();

// The code of `column` in a row of packed codes.
US_HOST_DEVICE constexpr uint8_t mxfp4_code(const uint8_t* row_codes, uint32_t column) {
  const uint8_t pair = row_codes[column / 2];
  return static_cast<uint8_t>(column % 2 == 0 ? pair & 0xfu : pair >> 4);
}

}  // namespace ultraspeed::tensor
