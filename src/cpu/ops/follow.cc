// Follow: the token that an MTP head embeds for each column, to every rank.
#include <algorithm>

#include "cpu/ops/accepted.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

using program::FollowOperands;

// The token `distance` >= 1 positions after an accepted column.
int32_t token_after(const OpContext& context, const FollowOperands& op, const AcceptedColumn& from,
                    uint32_t distance) {
  if (!from.wants_logits) {
    return context.input.columns[from.index].next_tokens[distance - 1];
  }
  const program::BufferId chosen = distance == 1 ? op.sampled : op.proposed[distance - 2];
  return static_cast<int32_t>(context.words(chosen)[from.index]);
}

}  // namespace

Status run_op(const OpContext& context, const FollowOperands& op, uint32_t) {
  for (uint32_t begin = 0; begin < context.num_columns();) {
    const OpContext::SequenceColumns sequence = context.sequence_columns(begin);
    const AcceptedColumn accepted = accepted_column(context, sequence, op.accepted);
    for (uint32_t t = begin; t < sequence.end; ++t) {
      const uint32_t at = t + op.distance;
      const int32_t token =
          at <= accepted.index
              ? context.input.columns[at].token_id
              : token_after(context, op, accepted, std::min(at - accepted.index, op.distance));
      for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
        context.words_of(rank, op.tokens)[t] = static_cast<uint32_t>(token);
      }
    }
    begin = sequence.end;
  }
  return {};
}

}  // namespace ultraspeed::cpu
