// Propose: the drafter's choice for each drafted column, or a head's for each accepted one, to
// every rank.
#include <algorithm>

#include "cpu/ops/accepted.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::ProposeOperands& op, uint32_t) {
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns()) continue;
    const bool is_for_host = op.accepted != program::kNoId;
    uint32_t first_logits = 0;
    if (is_for_host ? !is_accepted(context, op.accepted, t, &first_logits)
                    : !context.input.columns[t].is_drafted) {
      continue;
    }
    const float* logits = context.buffer(op.logits) + uint64_t{t} * op.vocab_size;
    const auto id =
        static_cast<uint32_t>(std::max_element(logits, logits + op.vocab_size) - logits);
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      context.words_of(rank, op.drafted)[t] = id;
    }
    if (!is_for_host) continue;
    context.output->columns[first_logits].proposed_ids.push_back(static_cast<int32_t>(id));
  }
  return {};
}

}  // namespace ultraspeed::cpu
