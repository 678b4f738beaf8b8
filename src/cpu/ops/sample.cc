#include "cpu/ops/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/philox.h"
#include "cpu/kernels/kernels.h"
#include "cpu/ops/adjusted_logits.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/rejection.h"
#include "cpu/ops/share_sample.h"
#include "program/step_check.h"

namespace ultraspeed::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// log_sum such that logit - log_sum is the log-probability.
Result<double> log_sum_exp(std::span<const float> logits, uint32_t position) {
  const uint32_t best = argmax(logits);
  const float most = logits[best];
  if (!(most < kInfinity)) return bad_logit("logit", position, best, most);
  if (std::isinf(most)) return bad_logit("largest logit", position, best, most);
  double sum = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kLogitPiece) {
    const auto piece = logits.subspan(begin, std::min<size_t>(kLogitPiece, logits.size() - begin));
    sum += exp_and_sum(piece.data(), most, static_cast<uint32_t>(piece.size()), nullptr);
  }
  return most + std::log(sum);
}

// What adjustments and mask leave, or why it is nothing.
Status check_adjusted(const AdjustedLogits& adjusted, uint32_t position,
                      const program::ColumnSampling& sampling) {
  if (adjusted.bad_id() != program::kNoId) {
    return bad_logit("adjusted logit", position, adjusted.bad_id(), adjusted.bad_value());
  }
  US_TRY(check_mask(sampling.allowed, position, adjusted.values().size()));
  const uint32_t best = argmax(adjusted.values());
  if (adjusted.values()[best] != -kInfinity) return {};
  return bad_logit("largest adjusted logit", position, best, -kInfinity);
}

// The draft, which was drawn from q, or what replaces it.
uint32_t verify_draft(const Candidates& candidates, std::span<const double> q, uint32_t draft,
                      uint32_t position, const program::ColumnSampling& sampling) {
  const std::vector<double> p = candidates.probabilities();
  const uint64_t accept_seed = seed_for(sampling.seed, RandomPurpose::kAcceptDraft);
  const uint64_t recover_seed = seed_for(sampling.seed, RandomPurpose::kRecoverToken);
  const auto noise = [&](uint32_t id) {
    return gumbel_from_bits(random_bits(recover_seed, position, id));
  };
  return accept_or_recover(p, q, draft, random_uniform(accept_seed, position, 0), noise).token_id;
}

Result<uint32_t> choose(std::span<const float> values, uint32_t position,
                        const program::ColumnSampling& sampling, const DrawnDraft* draft) {
  if (sampling.temperature == 0) return argmax(values);
  const Candidates candidates = kept_candidates({values}, sampling);
  if (sampling.proposed_token_id >= 0 && draft == nullptr) {
    const auto proposed = static_cast<uint32_t>(sampling.proposed_token_id);
    std::vector<double> q(values.size(), 0);
    q[proposed] = 1;
    return verify_draft(candidates, q, proposed, position, sampling);
  }
  if (draft == nullptr) return candidates.choose(sampling.seed, position).place;
  const uint32_t likeliest = argmax(draft->logits);
  const float most = draft->logits[likeliest];
  if (!std::isfinite(most)) return bad_logit("drafter's logit", position, likeliest, most);
  const std::vector<double> q = kept_candidates({draft->logits}, sampling).probabilities();
  return verify_draft(candidates, q, draft->token_id, position, sampling);
}

Result<uint32_t> chosen_token(std::span<const float> logits, uint32_t position,
                              const program::ColumnSampling& sampling, const DrawnDraft* draft) {
  US_TRY(program::check_sampling(sampling, position, logits.size()));
  if (sampling.forced_token_id >= 0) return static_cast<uint32_t>(sampling.forced_token_id);
  if (sampling.adjustments.empty() && sampling.allowed.empty()) {
    return choose(logits, position, sampling, draft);
  }
  const AdjustedLogits adjusted({logits}, sampling);
  US_TRY(check_adjusted(adjusted, position, sampling));
  return choose(adjusted.values(), position, sampling, draft);
}

// What was drawn to follow column t, in this step or in the one before.
std::optional<DrawnDraft> drawn_draft(const OpContext& context, const program::SampleOperands& op,
                                      uint32_t t) {
  const auto& columns = context.input.columns;
  const program::ColumnSampling& sampling = columns[t].sampling;
  if (sampling.proposed_token_id >= 0) {
    if (sampling.proposed_logits.empty()) return std::nullopt;
    return DrawnDraft{sampling.proposed_logits, static_cast<uint32_t>(sampling.proposed_token_id)};
  }
  const uint32_t next = t + 1;
  if (op.draft_logits == program::kNoId || next == columns.size() || !columns[next].is_drafted ||
      !program::is_draft_drawn(columns, next)) {
    return std::nullopt;
  }
  const float* logits = context.buffer(op.draft_logits) + uint64_t{next} * op.vocab_size;
  return DrawnDraft{{logits, op.vocab_size}, context.words(op.drafted)[next]};
}

}  // namespace

uint32_t draw_draft(std::span<const float> logits, uint32_t stream,
                    const program::ColumnSampling& sampling) {
  const uint32_t likeliest = argmax(logits);
  if (!std::isfinite(logits[likeliest])) return likeliest;
  const uint64_t seed = seed_for(sampling.seed, RandomPurpose::kDraftToken);
  return kept_candidates({logits}, sampling).choose(seed, stream).place;
}

Result<std::vector<double>> sampling_probabilities(std::span<const float> logits, uint32_t position,
                                                   const program::ColumnSampling& sampling) {
  US_TRY(program::check_sampling(sampling, position, logits.size()));
  const AdjustedLogits adjusted({logits}, sampling);
  US_TRY(check_adjusted(adjusted, position, sampling));
  return kept_candidates({adjusted.values()}, sampling).probabilities();
}

Result<program::ColumnOutput> sample_column(std::span<const float> logits, uint32_t position,
                                            const program::ColumnSampling& sampling,
                                            const DrawnDraft* draft) {
  US_CHECK(!logits.empty());
  US_ASSIGN(const double log_sum, log_sum_exp(logits, position));
  US_ASSIGN(const uint32_t token_id, chosen_token(logits, position, sampling, draft));
  const auto logprob = [&](uint32_t id) { return static_cast<float>(logits[id] - log_sum); };

  program::ColumnOutput output;
  output.token_id = static_cast<int32_t>(token_id);
  output.logprob = logprob(token_id);
  output.logit = logits[token_id];
  for (const uint32_t id : largest_ids(logits, sampling.num_logprobs)) {
    output.top_logprobs.emplace_back(static_cast<int32_t>(id), logprob(id));
  }
  return output;
}

Status run_op(const OpContext& context, const program::SampleOperands& op, uint32_t) {
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns() || !context.input.columns[t].wants_logits) continue;
    const program::Column& column = context.input.columns[t];
    const bool is_shared = op.part != program::SamplePart::kWhole &&
                           !program::needs_all_logits(column.sampling, op.vocab_size);
    if (op.part == program::SamplePart::kPeaks) {
      US_TRY(send_peaks(context, op, t));
      continue;
    }
    if (op.part == program::SamplePart::kShortlist) {
      if (is_shared) send_shortlist(context, op, t);
      continue;
    }
    if (is_shared) {
      US_ASSIGN(context.output->columns[t],
                choose_from_shares(logit_shares(context, op, t), column.position, column.sampling));
    } else {
      const std::optional<DrawnDraft> draft = drawn_draft(context, op, t);
      const float* logits = context.buffer(op.logits) + uint64_t{t} * op.vocab_size;
      US_ASSIGN(context.output->columns[t],
                sample_column({logits, op.vocab_size}, column.position, column.sampling,
                              draft ? &*draft : nullptr));
    }
    context.words(op.sampled)[t] = static_cast<uint32_t>(context.output->columns[t].token_id);
  }
  return {};
}

}  // namespace ultraspeed::cpu
