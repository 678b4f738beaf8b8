// Which positions a column's attention sees: program/operands.h, AttentionOperands.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/machine.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

struct VisiblePositions {
  uint32_t begin = 0, end = 0;  // [begin, end)
  uint32_t step_begin = 0;      // the sequence's first position in this step
  uint32_t first_column = 0;    // and its column
};

// One past the last position that column t sees.
inline uint32_t visible_end(const OpContext& context, bool is_causal, uint32_t t) {
  const uint32_t last = is_causal ? t : context.sequence_columns(t).end - 1;
  return context.input.columns[last].position + 1;
}

inline VisiblePositions visible_positions(const OpContext& context,
                                          const program::AttentionOperands& op, uint32_t t) {
  const auto minus = [](uint32_t a, uint32_t b) { return a > b ? a - b : 0; };
  const uint32_t position = context.input.columns[t].position;
  VisiblePositions visible;
  visible.first_column = context.sequence_columns(t).first;
  visible.step_begin = context.input.columns[visible.first_column].position;
  visible.end = visible_end(context, op.is_causal != 0, t);
  if (op.window == 0) return visible;
  if (op.is_window_before_step != 0) {
    visible.begin = minus(visible.step_begin, op.window);
    return visible;
  }
  visible.begin = minus(position + 1, op.window);
  if (op.is_causal == 0) visible.end = std::min(visible.end, position + op.window);
  return visible;
}

}  // namespace ultraspeed::cpu
