// Which positions a column's attention sees: program/operands.h, AttentionOperands.
#pragma once

#include <cstdint>

#include "cuda/ops/context.cuh"

namespace ultraspeed::cuda {

struct VisiblePositions {
  uint32_t begin = 0, end = 0;  // [begin, end)
};

// One past the last position that column t sees.
inline __device__ uint32_t visible_end(const OpContext& context, bool is_causal, uint32_t t) {
  const uint32_t last = is_causal ? t : context.column(t).end_column - 1;
  return context.column(last).position + 1;
}

inline __device__ VisiblePositions visible_positions(const OpContext& context,
                                                     const program::AttentionOperands& op,
                                                     uint32_t t) {
  const auto minus = [](uint32_t a, uint32_t b) { return a > b ? a - b : 0; };
  const StepColumn& column = context.column(t);
  VisiblePositions visible{0, visible_end(context, op.is_causal != 0, t)};
  if (op.window == 0) return visible;
  if (op.is_window_before_step != 0) {
    visible.begin = minus(context.column(column.first_column).position, op.window);
    return visible;
  }
  visible.begin = minus(column.position + 1, op.window);
  if (op.is_causal == 0) visible.end = min(visible.end, column.position + op.window);
  return visible;
}

}  // namespace ultraspeed::cuda
