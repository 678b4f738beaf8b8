// How keys and values of a rounded KV cache are rounded (docs/numerics.md section 2). The one
// definition, for every executor.
//
// fp8: codes are e4m3(v / scale), to nearest, ties to even, +-448 beyond it; scale is a power of
// two for the keys and one for the values of each KV head, the same for all positions, known from
// the weights. A code keeps 4 significant bits from 2^-6 to 448: with the scale between a quarter
// and half of the root mean square of what a head writes, an element may be 112 times that before
// it saturates, and loses bits below a 128th of it, where it no longer matters to a sum. bf16: to
// nearest, ties to even. A row with a NaN or an infinity is NaN to whoever sees it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/block_scale.h"
#include "tensor/e4m3.h"
#include "tensor/host_device.h"

namespace ultraspeed::tensor {

// Of a KV head: powers of two, 1 in bf16.
struct KvScales {
  float key = 1, value = 1;

  bool operator==(const KvScales&) const = default;
};

// The scale of elements with this mean square: 2^(floor(log2 of its root) - 1), from 2^-60 to 2^60;
// 1 where that says nothing: 0, an infinity or a NaN.
inline float kv_scale(double mean_square) {
  constexpr int kMostExponent = 60;  // so that scale, its inverse and 448 * scale are normal floats
  if (!(mean_square > 0) || std::isinf(mean_square)) return 1;
  const int exponent = std::ilogb(std::sqrt(mean_square)) - 1;
  return power_of_two(std::clamp(exponent, -kMostExponent, kMostExponent));
}

// What is attended to instead of v. REQUIRES: v is finite.
US_HOST_DEVICE constexpr float round_to_e4m3(float v, float scale) {
  return e4m3_to_float(e4m3_from_float(v * (1 / scale))) * scale;
}

}  // namespace ultraspeed::tensor
