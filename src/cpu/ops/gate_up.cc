// GateUp: rows of a dense layer's gate and up projections, joined by SwiGLU.
#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::GateUpOperands& op, uint32_t) {
  const Matrix weight = context.matrix(op.weight);
  const float* x = normed_columns(context, op.norm, op.hidden);
  float* output = context.buffer(op.output);
  float* gates = context.scratch->floats(kResults, context.num_columns());
  for (uint32_t row = context.task.row_begin; row < context.row_end(); ++row) {
    const float* gate = weight_row(context, weight, row);
    for (uint32_t t = 0; t < context.num_columns(); ++t) {
      gates[t] = dot(gate, x + uint64_t{t} * weight.cols, weight.cols);
    }
    const float* up = weight_row(context, weight, op.intermediate_size + row);
    for (uint32_t t = 0; t < context.num_columns(); ++t) {
      output[uint64_t{t} * op.intermediate_size + row] =
          silu(gates[t]) * dot(up, x + uint64_t{t} * weight.cols, weight.cols);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
