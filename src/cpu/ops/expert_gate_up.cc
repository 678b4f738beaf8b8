// ExpertGateUp: one row group of one live expert's gate and up projections, for its columns.
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "program/route_table.h"

namespace ultraspeed::cpu {
namespace {

// up becomes the rows' output.
void join_gate_up(const program::SwigluClamp& clamp, const float* gate, uint32_t count, float* up) {
  if (clamp.limit == 0) return silu_multiply(gate, up, count, up);
  clamped_swiglu(clamp.limit, program::SwigluClamp::kSlope, gate, up, count, up);
}

}  // namespace

Status run_op(const OpContext& context, const program::ExpertGateUpOperands& op, uint32_t unit) {
  const uint32_t index = context.task.row_begin + unit * context.task.part;
  const uint32_t slot = index / op.row_groups;
  const uint32_t rows = op.intermediate_size / op.row_groups;
  const uint32_t first_row = index % op.row_groups * rows;
  const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
  const uint32_t pair_begin = table.pair_begin[slot];
  const uint32_t pairs = table.pair_begin[slot + 1] - pair_begin;
  const Matrix weight = context.matrix(op.weight, table.expert[slot]);

  const Inputs x = inputs_at(context, normed_rows(context, weight, op.norm, op.hidden), pairs,
                             [&](uint32_t p) { return table.pair_column[pair_begin + p]; });
  float* gates = context.scratch->floats(kResults, uint64_t{pairs} * rows);
  float* output =
      context.buffer(op.activation) + uint64_t{pair_begin} * op.intermediate_size + first_row;
  multiply({weight, first_row, rows}, x, pairs, {gates, rows});
  multiply({weight, op.intermediate_size + first_row, rows}, x, pairs,
           {output, op.intermediate_size});
  if (op.bias != program::kNoId) {
    const float* bias = context.vector(op.bias, table.expert[slot]) + first_row;
    add_bias(bias, rows, pairs, rows, gates);
    add_bias(bias + op.intermediate_size, rows, pairs, op.intermediate_size, output);
  }
  for (uint32_t p = 0; p < pairs; ++p) {
    float* up = output + uint64_t{p} * op.intermediate_size;
    join_gate_up(op.clamp, gates + uint64_t{p} * rows, rows, up);
  }
  return {};
}

}  // namespace ultraspeed::cpu
