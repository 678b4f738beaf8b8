#include "train/code_rounding.h"

#include <torch/csrc/autograd/custom_function.h>

#include "base/check.h"

namespace ultraspeed::train {
namespace {

constexpr int64_t kExponentMask = 0x7f800000;  // of f32

struct StraightThrough : torch::autograd::Function<StraightThrough> {
  static torch::Tensor forward(torch::autograd::AutogradContext*, const torch::Tensor&,
                               const torch::Tensor& rounded) {
    return rounded.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    return {gradients[0], torch::Tensor()};
  }
};

}  // namespace

torch::Tensor exponent_bits(const torch::Tensor& x) {
  US_CHECK(x.scalar_type() == torch::kFloat32, "masters of another type than f32");
  return x.contiguous().view(torch::kInt32).bitwise_and(kExponentMask);
}

torch::Tensor round_to_codes(const torch::Tensor& x, const CodeType& type) {
  const torch::Tensor power = exponent_bits(x).view(torch::kFloat32);
  const torch::Tensor unit = power.clamp_min(type.smallest_normal).mul_(type.unit);
  return (x / unit).round_().mul_(unit).clamp_(-type.largest, type.largest);
}

torch::Tensor straight_through(const torch::Tensor& master, const torch::Tensor& rounded) {
  return StraightThrough::apply(master, rounded);
}

}  // namespace ultraspeed::train
