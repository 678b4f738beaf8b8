// GateUp: rows of a dense layer's gate and up projections, joined by SwiGLU.
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::GateUpOperands& op, uint32_t) {
  const program::Task& task = context.task;
  const Matrix weight = context.matrix(op.weight);
  const Inputs x = normed_inputs(context, weight, op.norm, op.hidden);
  const uint32_t columns = context.num_columns();
  const uint32_t rows = task.row_count;
  float* gates = context.scratch->floats(kResults, uint64_t{columns} * rows);
  float* output = context.buffer(op.output) + task.row_begin;
  multiply({weight, task.row_begin, rows}, x, columns, {gates, rows});
  multiply({weight, op.intermediate_size + task.row_begin, rows}, x, columns,
           {output, op.intermediate_size});
  for (uint32_t t = 0; t < columns; ++t) {
    float* up = output + uint64_t{t} * op.intermediate_size;
    silu_multiply(gates + uint64_t{t} * rows, up, rows, up);
  }
  return {};
}

}  // namespace ultraspeed::cpu
