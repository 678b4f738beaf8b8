// Where a sequence's text goes on in a step: program/operands.h, FollowOperands.
#pragma once

#include <cstdint>

#include "cpu/machine.h"

namespace ultraspeed::cpu {

struct AcceptedColumn {
  uint32_t index = 0;
  uint32_t first_logits = 0;  // the sequence's first logits column, if wants_logits
  bool wants_logits = false;
};

// The accepted column of a sequence with these columns; `accepted` is what Accept made.
inline AcceptedColumn accepted_column(const OpContext& context,
                                      const OpContext::SequenceColumns& of,
                                      program::BufferId accepted) {
  for (uint32_t t = of.first; t < of.end; ++t) {
    if (context.input.columns[t].wants_logits) return {t + context.words(accepted)[t], t, true};
  }
  return {of.end - 1, 0, false};
}

// Whether column t is an accepted one that wants logits; *first_logits is its sequence's then.
inline bool is_accepted(const OpContext& context, program::BufferId accepted, uint32_t t,
                        uint32_t* first_logits) {
  const AcceptedColumn at = accepted_column(context, context.sequence_columns(t), accepted);
  *first_logits = at.first_logits;
  return at.wants_logits && at.index == t;
}

}  // namespace ultraspeed::cpu
