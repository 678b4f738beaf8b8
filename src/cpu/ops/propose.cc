// Propose: the drafter's choice for each drafted column, or a head's for each accepted one, to
// every rank.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/philox.h"
#include "cpu/kernels/kernels.h"
#include "cpu/ops/accepted.h"
#include "cpu/ops/logit_rows.h"
#include "cpu/ops/nominees.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

using program::ProposeOperands;

std::span<const float> logits_of(const OpContext& context, const ProposeOperands& op, uint32_t t) {
  return logit_row(context, op.logits, op.vocab_size, t);
}

// What ranks nominated for a column: the largest of all of them.
Nominees merged_nominees(const OpContext& context, const ProposeOperands& op, uint32_t t) {
  Nominees merged(op.num_nominees());
  for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
    const uint64_t place = uint64_t{t} * context.num_ranks() + rank;
    merged.add_stored(context.words(op.nominees) + 2 * place * op.num_nominees());
  }
  return merged;
}

uint32_t likeliest(const OpContext& context, const ProposeOperands& op, uint32_t t) {
  if (op.nominees != program::kNoId) return merged_nominees(context, op, t).id(0);
  const std::span<const float> logits = logits_of(context, op, t);
  return static_cast<uint32_t>(std::ranges::max_element(logits) - logits.begin());
}

uint32_t drafted_token(const OpContext& context, const ProposeOperands& op, uint32_t t) {
  const auto& columns = context.input.columns;
  if (!program::is_draft_drawn(columns, t)) return likeliest(context, op, t);
  return draw_draft(logits_of(context, op, t), columns[t - 1].position, columns[t - 1].sampling);
}

// Of a head after an accepted column; output is that of the sequence's first logits column.
uint32_t proposed_token(const OpContext& context, const ProposeOperands& op, uint32_t t,
                        program::ColumnOutput* output) {
  const program::Column& column = context.input.columns[t];
  uint32_t id = 0;
  if (column.sampling.draws()) {
    const std::span<const float> logits = logits_of(context, op, t);
    id = draw_draft(logits, program::draft_stream(column.position, op.head), column.sampling);
    output->proposed_logits.emplace_back(logits.begin(), logits.end());
  } else {
    id = likeliest(context, op, t);
  }
  output->proposed_ids.push_back(static_cast<int32_t>(id));
  return id;
}

// What the token after a column is chosen with: of temperature 0 without noise.
float noisy(float score, const program::Column& column, uint32_t id) {
  const program::ColumnSampling& sampling = column.sampling;
  if (sampling.temperature <= 0) return score;
  const uint32_t bits = random_bits(sampling.seed, column.position, id);
  return score / sampling.temperature + static_cast<float>(gumbel_from_bits(bits));
}

using SelectorSums = std::array<float, program::kMaxNominees>;

// sum_r s[r] * joined[r], fused in the order of r, for the successor rows s of all nominees at
// once, a nominee a lane.
SelectorSums selector_sums(const OpContext& context, const program::SelectorRef& selector,
                           const uint32_t* ids, const float* joined) {
  std::array<float, size_t{program::kMaxSelectorRank} * program::kMaxNominees> rows;
  const uint32_t count = selector.num_nominees;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t id = ids[i] == program::kNoId ? ids[0] : ids[i];
    const float* s = context.vector(selector.successors) + uint64_t{id} * selector.rank;
    for (uint32_t r = 0; r < selector.rank; ++r) rows[r * count + i] = s[r];
  }
  SelectorSums sums = {};
  add_weighted_rows({rows.data(), count, selector.rank, count}, joined, 0, 1, sums.data(), 0);
  return sums;
}

// Of column t's nominees, as Nominees stores them, the one with the largest score after `before`.
uint32_t selected_token(const OpContext& context, const program::SelectorRef& selector,
                        const uint32_t* ids, uint32_t t, uint32_t before) {
  const program::Column& column_before = context.input.columns[t - 1];
  const float* u = context.vector(selector.predecessors) + uint64_t{before} * selector.rank;
  const float* g = context.buffer(selector.rows) + uint64_t{t} * selector.rank;
  std::array<float, program::kMaxSelectorRank> joined;
  for (uint32_t r = 0; r < selector.rank; ++r) joined[r] = u[r] * g[r];
  const SelectorSums sums = selector_sums(context, selector, ids, joined.data());
  uint32_t best_id = ids[0];
  float best = 0;
  for (uint32_t i = 0; i < selector.num_nominees && ids[i] != program::kNoId; ++i) {
    const float logit = std::bit_cast<float>(ids[selector.num_nominees + i]);
    const float score = noisy(logit + sums[i], column_before, ids[i]);
    if (i > 0 && !(score > best)) continue;
    best = score;
    best_id = ids[i];
  }
  return best_id;
}

// Of a column that draws, the token that is drawn alone.
void load_nominees(const OpContext& context, const ProposeOperands& op, uint32_t t,
                   uint32_t* nominees) {
  const auto& columns = context.input.columns;
  if (op.nominees == program::kNoId) {
    const uint32_t size = 2 * op.num_nominees();
    std::copy_n(context.words(op.selector.nominees) + uint64_t{t} * size, size, nominees);
  } else if (program::is_draft_drawn(columns, t)) {
    drawn_nominee(logits_of(context, op, t), columns[t - 1], op.num_nominees()).store(nominees);
  } else {
    merged_nominees(context, op, t).store(nominees);
  }
}

void select(const OpContext& context, const ProposeOperands& op) {
  const auto& columns = context.input.columns;
  const uint32_t* drafted = context.words(op.drafted);
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns() || !columns[t].is_drafted) continue;
    const program::Column& before = columns[t - 1];
    std::array<uint32_t, 2 * program::kMaxNominees> nominees;
    load_nominees(context, op, t, nominees.data());
    const uint32_t id =
        selected_token(context, op.selector, nominees.data(), t,
                       before.is_drafted ? drafted[t - 1] : static_cast<uint32_t>(before.token_id));
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      context.words_of(rank, op.drafted)[t] = id;
    }
  }
}

}  // namespace

Status run_op(const OpContext& context, const ProposeOperands& op, uint32_t) {
  if (op.selects()) {
    select(context, op);
    return {};
  }
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
