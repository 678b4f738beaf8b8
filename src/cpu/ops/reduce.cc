// Reduce: the 8 partial sums of a row in order, then the residual; to every rank.
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::ReduceOperands& op, uint32_t) {
  using program::kReductionChunks;
  const uint32_t hidden_size = context.hidden_size();
  const float* residual = context.buffer(op.residual);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    const float* partials =
        context.buffer(op.partials) + uint64_t{t} * kReductionChunks * hidden_size;
    for (uint32_t row = context.task.row_begin; row < context.row_end(); ++row) {
      float sum = partials[row];
      for (uint32_t chunk = 1; chunk < kReductionChunks; ++chunk) {
        sum += partials[uint64_t{chunk} * hidden_size + row];
      }
      const uint64_t index = uint64_t{t} * hidden_size + row;
      const float value = residual[index] + sum;
      for (uint32_t rank = 0; rank < context.program.num_ranks; ++rank) {
        context.buffer_of(rank, op.output)[index] = value;
      }
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
