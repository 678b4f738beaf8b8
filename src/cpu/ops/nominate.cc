// Nominate: the tokens among which a drafted column's is chosen.
#include <algorithm>

#include "cpu/kernels/kernels.h"
#include "cpu/ops/accepted.h"
#include "cpu/ops/logit_rows.h"
#include "cpu/ops/nominees.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {
namespace {

// Few pieces have a value that is larger than the least found so far. In a share behind the first
// no NaN is found, as none is behind the first values of a whole row.
Nominees largest_tokens(const TokenValues& tokens, uint32_t count) {
  constexpr uint32_t kPiece = 64;
  const std::span<const float> logits = tokens.values;
  const auto size = static_cast<uint32_t>(logits.size());
  Nominees found(count);
  for (uint32_t begin = 0; begin < size; begin += kPiece) {
    const uint32_t end = std::min(begin + kPiece, size);
    if (found.is_full() && largest(&logits[begin], end - begin) <= found.least()) continue;
    for (uint32_t place = begin; place < end; ++place) {
      if (tokens.first_id > 0 && std::isnan(logits[place])) continue;
      found.add(tokens.id_of(place), logits[place]);
    }
  }
  return found;
}

bool is_nominated_for(const OpContext& context, const program::NominateOperands& op, uint32_t t) {
  uint32_t first_logits = 0;
  return op.accepted == program::kNoId ? context.input.columns[t].is_drafted
                                       : is_accepted(context, op.accepted, t, &first_logits);
}

void nominate_from_share(const OpContext& context, const program::NominateOperands& op,
                         uint32_t t) {
  const auto& columns = context.input.columns;
  const bool draws = op.accepted == program::kNoId ? program::is_draft_drawn(columns, t)
                                                   : columns[t].sampling.draws();
  if (draws) {
    const uint32_t end = share_of(context, op.vocab_size).end;
    return send_logits(context, op.logits, op.vocab_size, t, end, 0);
  }
  const TokenValues share = shared_values(context, op.logits, op.vocab_size, t);
  const uint64_t place = uint64_t{t} * context.num_ranks() + context.rank();
  largest_tokens(share, op.num_nominees)
      .store(context.words_of(0, op.nominees) + 2 * place * op.num_nominees);
}

}  // namespace

Status run_op(const OpContext& context, const program::NominateOperands& op, uint32_t) {
  const auto& columns = context.input.columns;
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns() || !is_nominated_for(context, op, t)) continue;
    if (op.of_share != 0) {
      nominate_from_share(context, op, t);
      continue;
    }
    const auto logits = logit_row(context, op.logits, op.vocab_size, t);
    const Nominees found = program::is_draft_drawn(columns, t)
                               ? drawn_nominee(logits, columns[t - 1], op.num_nominees)
                               : largest_tokens({logits}, op.num_nominees);
    found.store(context.words(op.nominees) + uint64_t{2} * t * op.num_nominees);
  }
  return {};
}

}  // namespace ultraspeed::cpu
