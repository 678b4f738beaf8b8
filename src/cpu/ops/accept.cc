// Accept: how many of each sequence's draft tokens are what the target chose.
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::AcceptOperands& op, uint32_t) {
  const auto& columns = context.input.columns;
  const uint32_t* sampled = context.words(op.sampled);
  uint32_t* accepted = context.words(op.accepted);
  for (uint32_t first = 0; first < columns.size();) {
    uint32_t end = first + 1;
    while (end < columns.size() && columns[end].sequence == columns[first].sequence) ++end;
    while (first < end && !columns[first].wants_logits) ++first;
    uint32_t count = 0;
    while (first + count + 1 < end &&
           sampled[first + count] == static_cast<uint32_t>(columns[first + count + 1].token_id)) {
      ++count;
    }
    if (first < end) {
      accepted[first] = count;
      context.output->columns[first].accepted = count;
    }
    first = end;
  }
  return {};
}

}  // namespace ultraspeed::cpu
