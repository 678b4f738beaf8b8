// Linear: rows of a plain product, the router and the language-model head.
#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::LinearOperands& op, uint32_t) {
  const Matrix weight = context.matrix(op.weight);
  const float* x = normed_columns(context, op.norm, op.input);
  const uint32_t first = op.rows == op.total_rows ? 0 : context.rank() * op.rows;
  float* output =
      op.gather_to_rank_0 != 0 ? context.buffer_of(0, op.output) : context.buffer(op.output);
  for (uint32_t row = context.task.row_begin; row < context.row_end(); ++row) {
    const float* w = weight_row(context, weight, row);
    for (uint32_t t = 0; t < context.num_columns(); ++t) {
      if (op.logits_only != 0 && !context.input.columns[t].wants_logits) continue;
      output[uint64_t{t} * op.total_rows + first + row] =
          dot(w, x + uint64_t{t} * weight.cols, weight.cols);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
