// Where the fast kernels of a Linear stage write, and which columns.
#pragma once

#include <cstdint>

#include "cuda/machine.h"
#include "cuda/ops/column_filter.h"
#include "cuda/view.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

struct LinearOutput {
  float* data = nullptr;   // [T, op.total_rows], this rank's
  uint32_t first_row = 0;  // of the rank's rows
  ColumnFilter filter;     // nothing is asked of the step where all columns are wanted
};

// step: device.
inline LinearOutput linear_output(const Machine& machine, uint32_t rank, uint32_t program,
                                  const program::LinearOperands& op, const StepView* step) {
  LinearOutput output;
  output.data = machine.buffer(rank, program, op.output);
  output.first_row = op.rows == op.total_rows ? 0 : rank * op.rows;
  const bool has_accepted = op.accepted != program::kNoId;
  if (op.logits_only == 0 && op.drafted_only == 0 && !has_accepted) return output;
  output.filter.step = step;
  output.filter.logits_only = op.logits_only != 0;
  output.filter.drafted_only = op.drafted_only != 0;
  if (has_accepted) {
    output.filter.accepted =
        reinterpret_cast<const uint32_t*>(machine.buffer(rank, program, op.accepted));
  }
  return output;
}

}  // namespace ultraspeed::cuda
