// Rounding to the codes of small floating-point types, in tensors of f32, by operations whose
// result is one number by definition, so that every LibTorch on every device computes the same.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include "tensor/e4m3.h"

namespace ultraspeed::train {

struct CodeType {
  double smallest_normal = 0;  // a power of two
  double unit = 0;             // of the numbers from 1 to 2: a power of two, too
  double largest = 0;
};
inline constexpr CodeType kE4m3 = {0x1p-6, 0x1p-3, static_cast<double>(tensor::kE4m3Max)};
inline constexpr CodeType kE2m1 = {1, 0x1p-1, 6};

// To the nearest code, ties to the even one; what is larger becomes the largest. The sign of zero
// stays. REQUIRES: finite numbers.
torch::Tensor round_to_codes(const torch::Tensor& x, const CodeType& type);

// Each number's bits without sign and fraction: those of the power of two below it, i32.
torch::Tensor exponent_bits(const torch::Tensor& x);

// `rounded`, bit for bit; its gradient goes to `master` as it is.
torch::Tensor straight_through(const torch::Tensor& master, const torch::Tensor& rounded);

}  // namespace ultraspeed::train
