// Propose: the drafter's choice for each drafted column, or a head's for each accepted one, to
// every rank.
#include <algorithm>

#include "cpu/ops/accepted.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

std::span<const float> logits_of(const OpContext& context, const program::ProposeOperands& op,
                                 uint32_t t) {
  return {context.buffer(op.logits) + uint64_t{t} * op.vocab_size, op.vocab_size};
}

uint32_t likeliest(std::span<const float> logits) {
  return static_cast<uint32_t>(std::ranges::max_element(logits) - logits.begin());
}

uint32_t drafted_token(const OpContext& context, const program::ProposeOperands& op, uint32_t t) {
  const auto& columns = context.input.columns;
  const std::span<const float> logits = logits_of(context, op, t);
  if (!program::is_draft_drawn(columns, t)) return likeliest(logits);
  return draw_draft(logits, columns[t - 1].position, columns[t - 1].sampling);
}

// Of a head after an accepted column; output is that of the sequence's first logits column.
uint32_t proposed_token(const OpContext& context, const program::ProposeOperands& op, uint32_t t,
                        program::ColumnOutput* output) {
  const program::Column& column = context.input.columns[t];
  const std::span<const float> logits = logits_of(context, op, t);
  uint32_t id = 0;
  if (column.sampling.draws()) {
    id = draw_draft(logits, program::draft_stream(column.position, op.head), column.sampling);
    output->proposed_logits.emplace_back(logits.begin(), logits.end());
  } else {
    id = likeliest(logits);
  }
  output->proposed_ids.push_back(static_cast<int32_t>(id));
  return id;
}

}  // namespace

Status run_op(const OpContext& context, const program::ProposeOperands& op, uint32_t) {
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns()) continue;
    const bool is_for_host = op.accepted != program::kNoId;
    uint32_t first_logits = 0;
    if (is_for_host ? !is_accepted(context, op.accepted, t, &first_logits)
                    : !context.input.columns[t].is_drafted) {
      continue;
    }
    const uint32_t id = is_for_host
                            ? proposed_token(context, op, t, &context.output->columns[first_logits])
                            : drafted_token(context, op, t);
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      context.words_of(rank, op.drafted)[t] = id;
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
