#include "train/fp8_rounding.h"

#include "base/check.h"
#include "tensor/e4m3.h"
#include "train/code_rounding.h"

namespace ultraspeed::train {
namespace {

constexpr int64_t kBlock = 128;
torch::Tensor rounded(const torch::Tensor& matrix) {
  const int64_t rows = matrix.size(0), columns = matrix.size(1);
  const int64_t row_blocks = (rows + kBlock - 1) / kBlock;
  const int64_t column_blocks = (columns + kBlock - 1) / kBlock;
  const torch::Tensor padded = torch::constant_pad_nd(
      matrix, {0, column_blocks * kBlock - columns, 0, row_blocks * kBlock - rows});
  const torch::Tensor blocks = padded.view({row_blocks, kBlock, column_blocks, kBlock});
  torch::Tensor scale = blocks.abs().amax({1, 3}, true) / static_cast<double>(tensor::kE4m3Max);
  scale = torch::where(scale == 0, torch::ones_like(scale), scale);
  return (round_to_codes(blocks / scale, kE4m3) * scale)
      .view({row_blocks * kBlock, column_blocks * kBlock})
      .narrow(0, 0, rows)
      .narrow(1, 0, columns);
}

}  // namespace

torch::Tensor round_to_fp8(const torch::Tensor& matrix) {
  const torch::Tensor detached = matrix.detach();
  US_CHECK(detached.scalar_type() == torch::kFloat32, "masters of another type than f32");
  return straight_through(matrix, rounded(detached));
}

}  // namespace ultraspeed::train
