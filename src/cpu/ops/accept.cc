// Accept: how many of each sequence's draft tokens are what the target chose.
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

using program::AcceptOperands;

uint32_t token_of(const OpContext& context, const AcceptOperands& op, uint32_t t) {
  const program::Column& column = context.input.columns[t];
  return column.is_drafted ? context.words(op.drafted)[t] : static_cast<uint32_t>(column.token_id);
}

}  // namespace

Status run_op(const OpContext& context, const AcceptOperands& op, uint32_t) {
  const auto& columns = context.input.columns;
  const uint32_t* sampled = context.words(op.sampled);
  for (uint32_t first = 0; first < columns.size();) {
    uint32_t end = first + 1;
    while (end < columns.size() && columns[end].sequence == columns[first].sequence) ++end;
    while (first < end && !columns[first].wants_logits) ++first;
    uint32_t count = 0;
    while (first + count + 1 < end &&
           sampled[first + count] == token_of(context, op, first + count + 1)) {
      ++count;
    }
    if (first < end) {
      for (uint32_t rank = 0; rank < (op.broadcast != 0 ? context.num_ranks() : 1); ++rank) {
        context.words_of(rank, op.accepted)[first] = count;
      }
      context.output->columns[first].accepted = count;
    }
    first = end;
  }
  for (uint32_t t = 0; t < columns.size(); ++t) {
    if (!columns[t].is_drafted) continue;
    context.output->columns[t].drafted_id = static_cast<int32_t>(token_of(context, op, t));
  }
  return {};
}

}  // namespace ultraspeed::cpu
