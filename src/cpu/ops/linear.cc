// Linear: rows of a plain product: the router, the language-model heads, a drafter's features, an
// MTP head's projection.
#include <algorithm>

#include "cpu/ops/accepted.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

using program::LinearOperands;

// The inputs of all columns one behind the other, normalised or not: [num_columns, input_size].
const float* joined_columns(const OpContext& context, const LinearOperands& op,
                            uint32_t input_size) {
  const uint32_t size = context.hidden_size();
  float* out = context.scratch->floats(kJoined, uint64_t{context.num_columns()} * input_size);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    float* row = out + uint64_t{t} * input_size;
    const auto append = [&](const program::NormRef& norm, program::BufferId input, uint32_t place) {
      const float* from = context.buffer(input) + uint64_t{t} * size;
      float* to = row + uint64_t{place} * size;
      if (norm.weight == program::kNoId) {
        std::copy_n(from, size, to);
      } else {
        rms_norm(from, context.vector(norm.weight), norm.epsilon, size, to);
      }
    };
    append(op.norm, op.input, 0);
    for (uint32_t i = 1; i < input_size / size; ++i) {
      append(i == 1 ? op.second_norm : program::NormRef(), op.more_inputs[i - 1], i);
    }
  }
  return out;
}

Inputs linear_inputs(const OpContext& context, const LinearOperands& op, const Matrix& weight) {
  if (op.more_inputs[0] == program::kNoId) {
    return normed_inputs(context, weight, op.norm, op.input);
  }
  const float* rows = joined_columns(context, op, weight.cols);
  const uint32_t count = context.num_columns();
  return all_inputs(context, rows_for(context, weight, rows, count), count);
}

// Copies what columns [begin, end) gave from the first rank on to all others.
void broadcast(const OpContext& context, const LinearOperands& op, uint64_t offset,
               uint32_t num_columns) {
  const uint32_t count = context.task.row_count;
  for (uint32_t rank = 1; rank < context.num_ranks(); ++rank) {
    for (uint64_t t = 0; t < num_columns; ++t) {
      const uint64_t at = offset + t * op.total_rows;
      std::copy_n(context.buffer_of(0, op.output) + at, count,
                  context.buffer_of(rank, op.output) + at);
    }
  }
}

}  // namespace

Status run_op(const OpContext& context, const LinearOperands& op, uint32_t) {
  const program::Task& task = context.task;
  const MatrixRows rows{context.matrix(op.weight), task.row_begin, task.row_count};
  const Inputs x = linear_inputs(context, op, rows.matrix);
  const uint32_t first = op.rows == op.total_rows ? 0 : context.rank() * op.rows;
  const bool goes_to_rank_0 = op.gather_to_rank_0 != 0 || op.broadcast != 0;
  float* output = goes_to_rank_0 ? context.buffer_of(0, op.output) : context.buffer(op.output);
  const auto is_wanted = [&](uint32_t t) {
    const program::Column& column = context.input.columns[t];
    uint32_t first_logits = 0;
    return (op.logits_only == 0 || column.wants_logits) &&
           (op.drafted_only == 0 || column.is_drafted) &&
           (op.accepted == program::kNoId || is_accepted(context, op.accepted, t, &first_logits));
  };
  // Neighbouring columns together.
  for (uint32_t begin = 0, end = 0; begin < context.num_columns(); begin = end + 1) {
    for (end = begin; end < context.num_columns() && is_wanted(end);) ++end;
    const uint64_t offset = uint64_t{begin} * op.total_rows + first + task.row_begin;
    multiply(rows, x.from(begin), end - begin, {output + offset, op.total_rows});
    if (op.broadcast != 0) broadcast(context, op, offset, end - begin);
  }
  return {};
}

}  // namespace ultraspeed::cpu
