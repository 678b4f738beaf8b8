// The form of int8 activations (docs/numerics.md section 2).
#pragma once

#include <cstdint>

namespace ultraspeed::cpu {

inline constexpr uint32_t kInt8BlockColumns = 32;

// What the stored codes of int8 weights have more than their values (int8_layout.h).
inline constexpr uint8_t kInt8Bias = 128;

// 32 elements of a vector: x = code * scale. One that is not a number or infinite makes the scale
// NaN, and so every product.
struct alignas(16) Int8Block {
  int8_t codes[kInt8BlockColumns];  // [-127, 127]
  float scale;
  int32_t offset;           // -kInt8Bias * the sum of the codes: what biased weights add too much
  int32_t half_offsets[2];  // the same of each half
};

// A block of smaller elements counts as zeros: 127 / its largest could overflow.
inline constexpr float kLeastInt8Magnitude = 0x1p-100F;

}  // namespace ultraspeed::cpu
