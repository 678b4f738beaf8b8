// Nominate: the tokens among which a selector chooses a drafted column's.
#include <algorithm>
#include <bit>

#include "cpu/kernels/kernels.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

// The largest of a row, in order; `found` has room for as many as are wanted. Few pieces of the row
// have one that is larger than the least found so far.
uint32_t largest_tokens(std::span<const float> logits, std::span<uint32_t> found) {
  constexpr uint32_t kPiece = 64;
  const auto size = static_cast<uint32_t>(logits.size());
  uint32_t count = 0;
  for (uint32_t begin = 0; begin < size; begin += kPiece) {
    const uint32_t end = std::min(begin + kPiece, size);
    const auto is_full = [&] { return count == found.size(); };
    if (is_full() && largest(&logits[begin], end - begin) <= logits[found[count - 1]]) continue;
    for (uint32_t id = begin; id < end; ++id) {
      if (is_full() && !(logits[id] > logits[found[count - 1]])) continue;
      uint32_t place = is_full() ? count - 1 : count++;
      for (; place > 0 && logits[id] > logits[found[place - 1]]; --place) {
        found[place] = found[place - 1];
      }
      found[place] = id;
    }
  }
  return count;
}

}  // namespace

Status run_op(const OpContext& context, const program::NominateOperands& op, uint32_t) {
  const auto& columns = context.input.columns;
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns() || !columns[t].is_drafted) continue;
    const std::span<const float> logits = {context.buffer(op.logits) + uint64_t{t} * op.vocab_size,
                                           op.vocab_size};
    uint32_t* ids = context.words(op.nominees) + uint64_t{2} * t * op.num_nominees;
    uint32_t count = 1;
    if (program::is_draft_drawn(columns, t)) {
      ids[0] = draw_draft(logits, columns[t - 1].position, columns[t - 1].sampling);
    } else {
      count = largest_tokens(logits, {ids, op.num_nominees});
    }
    for (uint32_t i = 0; i < op.num_nominees; ++i) {
      if (i >= count) ids[i] = program::kNoId;
      ids[op.num_nominees + i] = std::bit_cast<uint32_t>(i < count ? logits[ids[i]] : 0.0F);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
