// Linear: rows of a plain product, the router and the language-model head.
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::LinearOperands& op, uint32_t) {
  const program::Task& task = context.task;
  const MatrixRows rows{context.matrix(op.weight), task.row_begin, task.row_count};
  const float* const* x = normed_columns(context, op.norm, op.input);
  const uint32_t first = op.rows == op.total_rows ? 0 : context.rank() * op.rows;
  float* output =
      op.gather_to_rank_0 != 0 ? context.buffer_of(0, op.output) : context.buffer(op.output);
  const auto is_wanted = [&](uint32_t t) {
    return op.logits_only == 0 || context.input.columns[t].wants_logits;
  };
  // Neighbouring columns together.
  for (uint32_t begin = 0, end = 0; begin < context.num_columns(); begin = end + 1) {
    for (end = begin; end < context.num_columns() && is_wanted(end);) ++end;
    float* to = output + uint64_t{begin} * op.total_rows + first + task.row_begin;
    multiply(rows, x + begin, end - begin, {to, op.total_rows});
  }
  return {};
}

}  // namespace ultraspeed::cpu
