// Embed: this rank's columns of the token's embedding row, to every rank.
#include <algorithm>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::EmbedOperands& op, uint32_t) {
  const Matrix table = context.matrix(op.table);  // [vocab_size, H / ranks]
  const uint32_t hidden_size = context.hidden_size();
  const uint32_t first = context.task.row_begin;
  const uint32_t count = context.task.row_count;
  float* row = context.scratch->floats(kEmbedding, count);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    const auto token = static_cast<uint32_t>(context.input.columns[t].token_id);
    dequantize_row(table, token, first - context.rank() * table.cols, count, row);
    for (uint32_t rank = 0; rank < context.program.num_ranks; ++rank) {
      std::copy(row, row + count, context.buffer_of(rank, op.hidden) + t * hidden_size + first);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
