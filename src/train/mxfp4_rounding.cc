#include "train/mxfp4_rounding.h"

#include "base/check.h"
#include "tensor/mxfp4.h"
#include "train/code_rounding.h"

namespace ultraspeed::train {
namespace {

// Bits of f32: one fraction bit rounded half away, two exponents, and 2^-127, E8M0's smallest.
constexpr int64_t kHalfOfFirstFractionBit = 1 << 21;
constexpr int64_t kTwoExponents = 2 << 23;  // of 6 = 1.5 * 2^2, the largest code
constexpr int64_t kSmallestScale = 1 << 22;

// Of blocks [..., 32]: f32 [..., 1].
torch::Tensor even_scale(const torch::Tensor& blocks) {
  const torch::Tensor largest = blocks.abs().amax(-1, true).contiguous();
  const torch::Tensor rounded = (largest.view(torch::kInt32) + kHalfOfFirstFractionBit);
  const torch::Tensor bits =
      (exponent_bits(rounded.view(torch::kFloat32)) - kTwoExponents).clamp_min(kSmallestScale);
  return bits.view(torch::kFloat32);
}

}  // namespace

torch::Tensor round_to_mxfp4(const torch::Tensor& matrices) {
  const torch::Tensor detached = matrices.detach();
  constexpr int64_t kColumns = tensor::kMxBlockColumns;
  US_CHECK(detached.scalar_type() == torch::kFloat32, "masters of another type than f32");
  US_CHECK(detached.size(-1) % kColumns == 0, "{} columns", detached.size(-1));
  const torch::Tensor blocks = detached.reshape({-1, kColumns});
  const torch::Tensor scale = even_scale(blocks);
  const torch::Tensor rounded = round_to_codes(blocks / scale, kE2m1) * scale;
  return straight_through(matrices, rounded.view(detached.sizes()));
}

}  // namespace ultraspeed::train
