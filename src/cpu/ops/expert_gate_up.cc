// ExpertGateUp: one row group of one live expert's gate and up projections, for its columns.
#include <algorithm>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "program/route_table.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::ExpertGateUpOperands& op, uint32_t unit) {
  const uint32_t index = context.task.row_begin + unit * context.task.part;
  const uint32_t slot = index / op.row_groups;
  const uint32_t group_rows = op.intermediate_size / op.row_groups;
  const uint32_t first_row = index % op.row_groups * group_rows;
  const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
  const uint32_t pair_begin = table.pair_begin[slot];
  const uint32_t pairs = table.pair_begin[slot + 1] - pair_begin;
  const Matrix weight = context.matrix(op.weight, table.expert[slot]);

  const uint32_t size = context.hidden_size();
  const float* hidden = context.buffer(op.hidden);
  const float* norm = context.vector(op.norm.weight);
  float* x = context.scratch->floats(kNormed, uint64_t{pairs} * size);
  for (uint32_t p = 0; p < pairs; ++p) {
    rms_norm(hidden + uint64_t{table.pair_column[pair_begin + p]} * size, norm, op.norm.epsilon,
             size, x + uint64_t{p} * size);
  }
  float* gates = context.scratch->floats(kResults, pairs);
  float* activation = context.buffer(op.activation) + uint64_t{pair_begin} * op.intermediate_size;
  for (uint32_t row = first_row; row < first_row + group_rows; ++row) {
    const float* gate = weight_row(context, weight, row);
    for (uint32_t p = 0; p < pairs; ++p) gates[p] = dot(gate, x + uint64_t{p} * size, size);
    const float* up = weight_row(context, weight, op.intermediate_size + row);
    for (uint32_t p = 0; p < pairs; ++p) {
      activation[uint64_t{p} * op.intermediate_size + row] =
          silu(gates[p]) * dot(up, x + uint64_t{p} * size, size);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
