#include "train/fp8_rounding.h"

#include "base/check.h"
#include "tensor/e4m3.h"

namespace ultraspeed::train {
namespace {

constexpr int64_t kBlock = 128;
constexpr int64_t kSmallestExponent = -6;  // of E4M3's normal numbers
constexpr int64_t kMantissaBits = 3;
// Of f32.
constexpr int64_t kExponentShift = 23;
constexpr int64_t kExponentBias = 127;

// x: f32. By the bits of its exponents, which every LibTorch computes alike.
torch::Tensor round_to_e4m3(const torch::Tensor& x) {
  const torch::Tensor bits = x.abs().contiguous().view(torch::kInt32);
  const torch::Tensor exponent = torch::bitwise_right_shift(bits, kExponentShift) - kExponentBias;
  const torch::Tensor unit_exponent = exponent.clamp_min(kSmallestExponent) - kMantissaBits;
  const torch::Tensor unit =
      torch::bitwise_left_shift(unit_exponent + kExponentBias, kExponentShift)
          .view(torch::kFloat32);
  const double largest = static_cast<double>(tensor::kE4m3Max);
  return ((x / unit).round() * unit).clamp(-largest, largest);
}

torch::Tensor rounded(const torch::Tensor& matrix) {
  const int64_t rows = matrix.size(0), columns = matrix.size(1);
  const int64_t row_blocks = (rows + kBlock - 1) / kBlock;
  const int64_t column_blocks = (columns + kBlock - 1) / kBlock;
  const torch::Tensor padded = torch::constant_pad_nd(
      matrix, {0, column_blocks * kBlock - columns, 0, row_blocks * kBlock - rows});
  const torch::Tensor blocks = padded.view({row_blocks, kBlock, column_blocks, kBlock});
  torch::Tensor scale = blocks.abs().amax({1, 3}, true) / static_cast<double>(tensor::kE4m3Max);
  scale = torch::where(scale == 0, torch::ones_like(scale), scale);
  return (round_to_e4m3(blocks / scale) * scale)
      .view({row_blocks * kBlock, column_blocks * kBlock})
      .narrow(0, 0, rows)
      .narrow(1, 0, columns);
}

}  // namespace

torch::Tensor round_to_fp8(const torch::Tensor& matrix) {
  const torch::Tensor detached = matrix.detach();
  US_CHECK(detached.scalar_type() == torch::kFloat32, "masters of another type than f32");
  return matrix + (rounded(detached) - detached);
}

}  // namespace ultraspeed::train
