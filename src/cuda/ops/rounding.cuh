// Rounding to codes and back (program/arithmetic.h, tensor/block_scale.h).
#pragma once

#include <cstdint>

#include "program/arithmetic.h"
#include "tensor/bf16.h"
#include "tensor/block_scale.h"
#include "tensor/e4m3.h"
#include "tensor/f16.h"

namespace ultraspeed::cuda {

inline __device__ float round_to_bf16(float value) {
  return tensor::bf16_to_float(tensor::bf16_from_float(value));
}

// Of the values of a block, whose largest magnitude is known.
template <program::Rounding kRounding>
class BlockRounding {
  static constexpr bool kIsE4m3 = kRounding == program::Rounding::kE4m3;
  static_assert(kIsE4m3 || kRounding == program::Rounding::kF16);

 public:
  __device__ explicit BlockRounding(uint32_t largest_bits)
      : scale_(kIsE4m3 ? tensor::e4m3_scale(largest_bits) : tensor::f16_scale(largest_bits)),
        factor_(tensor::power_of_two(scale_.exponent)),
        inverse_(tensor::power_of_two(-scale_.exponent)) {}

  __device__ float operator()(float value) const {
    if (scale_.is_nan) return __uint_as_float(0x7fc00000u);
    const float scaled = value * inverse_;
    if constexpr (kIsE4m3) {
      return tensor::e4m3_to_float(tensor::e4m3_from_float(scaled)) * factor_;
    } else {
      return tensor::f16_to_float(tensor::f16_from_float(scaled)) * factor_;
    }
  }

 private:
  tensor::BlockScale scale_;
  float factor_, inverse_;
};

}  // namespace ultraspeed::cuda
