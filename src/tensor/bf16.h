// bfloat16: the upper half of a binary32. Conversion to it rounds to nearest, ties to even.
#pragma once

#include <bit>
#include <cstdint>

#include "tensor/host_device.h"

namespace ultraspeed::tensor {

US_HOST_DEVICE constexpr float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

US_HOST_DEVICE constexpr uint16_t bf16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {  // NaN: keep it quiet and non-zero
    return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  }
  const uint32_t rounding = 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>((bits + rounding) >> 16);
}

}  // namespace ultraspeed::tensor
