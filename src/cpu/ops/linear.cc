// Linear: rows of a plain product: the router, the language-model head, a drafter's features.
#include <algorithm>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

using program::LinearOperands;

// The inputs of all columns one behind the other: [num_columns, input_size].
const float* joined_inputs(const OpContext& context, const LinearOperands& op,
                           uint32_t input_size) {
  const uint32_t size = context.hidden_size();
  float* out = context.scratch->floats(kNormed, uint64_t{context.num_columns()} * input_size);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    const auto append = [&](program::BufferId input, uint32_t place) {
      const float* x = context.buffer(input) + uint64_t{t} * size;
      std::copy(x, x + size, out + uint64_t{t} * input_size + uint64_t{place} * size);
    };
    append(op.input, 0);
    for (uint32_t i = 1; i < input_size / size; ++i) append(op.more_inputs[i - 1], i);
  }
  return out;
}

}  // namespace

Status run_op(const OpContext& context, const LinearOperands& op, uint32_t) {
  const Matrix weight = context.matrix(op.weight);
  const float* x = op.more_inputs[0] == program::kNoId ? normed_columns(context, op.norm, op.input)
                                                       : joined_inputs(context, op, weight.cols);
  const uint32_t first = op.rows == op.total_rows ? 0 : context.rank() * op.rows;
  const bool is_for_all = op.broadcast != 0;
  const uint32_t first_rank = is_for_all || op.gather_to_rank_0 != 0 ? 0 : context.rank();
  const uint32_t end_rank = is_for_all ? context.num_ranks() : first_rank + 1;
  for (uint32_t row = context.task.row_begin; row < context.row_end(); ++row) {
    const float* w = weight_row(context, weight, row);
    for (uint32_t t = 0; t < context.num_columns(); ++t) {
      if (op.logits_only != 0 && !context.input.columns[t].wants_logits) continue;
      if (op.drafted_only != 0 && !context.input.columns[t].is_drafted) continue;
      const float value = dot(w, x + uint64_t{t} * weight.cols, weight.cols);
      for (uint32_t rank = first_rank; rank < end_rank; ++rank) {
        context.buffer_of(rank, op.output)[uint64_t{t} * op.total_rows + first + row] = value;
      }
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
