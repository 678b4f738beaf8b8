// Reduce: the 8 partial sums of a row in order, then the residual; to every rank that has no own.
#include <algorithm>
#include <array>

#include "cpu/kernels/kernels.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

// So many rows at once.
constexpr uint32_t kRowsAtOnce = 64;

// residual[i] + the sum over chunks of partials[chunk * stride + i], and bias[i] if there is one;
// the result goes to sums. A fused product with 1 is a plain sum.
void reduce_rows(const float* partials, size_t stride, const float* bias, const float* residual,
                 uint32_t count, float* sums) {
  constexpr std::array<float, program::kReductionChunks - 1> kOnes = {1, 1, 1, 1, 1, 1, 1};
  std::copy_n(partials, count, sums);
  add_weighted_rows({partials + stride, stride, kOnes.size(), count}, kOnes.data(), 0, 1, sums, 0);
  if (bias != nullptr) add_weighted_rows({bias, 0, 1, count}, kOnes.data(), 0, 1, sums, 0);
  add_weighted_rows({residual, 0, 1, count}, kOnes.data(), 0, 1, sums, 0);
}

}  // namespace

Status run_op(const OpContext& context, const program::ReduceOperands& op, uint32_t) {
  const uint64_t hidden_size = context.hidden_size();
  const float* residual = context.buffer(op.residual);
  const float* partials = context.buffer(op.partials);
  const float* bias = context.vector(op.bias);
  std::array<float, kRowsAtOnce> sums;
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    for (uint32_t row = context.task.row_begin; row < context.row_end(); row += kRowsAtOnce) {
      const uint32_t count = std::min(kRowsAtOnce, context.row_end() - row);
      const uint64_t index = t * hidden_size + row;
      reduce_rows(partials + t * program::kReductionChunks * hidden_size + row, hidden_size,
                  bias == nullptr ? nullptr : bias + row, residual + index, count, sums.data());
      const uint32_t first = op.is_own != 0 ? context.rank() : 0;
      const uint32_t end = op.is_own != 0 ? first + 1 : context.num_ranks();
      for (uint32_t rank = first; rank < end; ++rank) {
        std::copy_n(sums.data(), count, context.buffer_of(rank, op.output) + index);
      }
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
