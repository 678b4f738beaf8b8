// Embed: this rank's columns of the token's embedding row, to every rank.
#include <algorithm>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

using program::EmbedOperands;

// A row of a table.
struct TableRow {
  Matrix table;  // [rows, H / ranks]
  uint32_t row = 0;
};

TableRow row_of(const OpContext& context, const EmbedOperands& op, uint32_t t) {
  const program::Column& column = context.input.columns[t];
  const Matrix table = context.matrix(op.table);
  if (op.tokens != program::kNoId) return {table, context.words(op.tokens)[t]};
  if (!column.is_drafted) return {table, static_cast<uint32_t>(column.token_id)};
  if (op.drafted != program::kNoId) return {table, context.words(op.drafted)[t]};
  if (op.mask != program::kNoId) return {context.matrix(op.mask), 0};
  return {table, op.mask_token_id};
}

}  // namespace

Status run_op(const OpContext& context, const EmbedOperands& op, uint32_t) {
  const uint32_t hidden_size = context.hidden_size();
  const uint32_t first = context.task.row_begin;
  const uint32_t count = context.task.row_count;
  float* row = context.scratch->floats(kEmbedding, count);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    const TableRow from = row_of(context, op, t);
    dequantize_row(from.table, from.row, first - context.rank() * from.table.cols, count, row);
    for (uint32_t rank = 0; rank < context.program.num_ranks; ++rank) {
      std::copy(row, row + count, context.buffer_of(rank, op.hidden) + t * hidden_size + first);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
