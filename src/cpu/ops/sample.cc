#include "cpu/ops/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "base/check.h"
#include "base/philox.h"
#include "cpu/kernels/kernels.h"
#include "cpu/ops/candidates.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/rejection.h"
#include "program/step_check.h"

namespace ultraspeed::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

tl::unexpected<Error> bad_logit(std::string_view what, uint32_t position, size_t token_id,
                                float value) {
  return make_error(ErrorCode::kInvalidData,
                    "sampling after position {}: the {} of token {} is {}, expected a finite "
                    "number; a weight of the checkpoint or an operation before is at fault",
                    position, what, token_id, value);
}

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

// Gives -infinity to the tokens that may not be chosen.
Status mask_logits(program::TokenMask allowed, uint32_t position, std::span<float> values) {
  size_t num_allowed = 0;
  for (size_t id = 0; id < values.size(); ++id) {
    const bool is_allowed = program::contains(allowed, id);
    if (!is_allowed) values[id] = -kInfinity;
    num_allowed += is_allowed ? 1 : 0;
  }
  if (num_allowed > 0) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "sampling after position {}: the constraint allows no token", position);
}

// Applies adjustments and mask to a copy of the logits. REQUIRES: check_sampling() accepts them.
Result<std::vector<float>> adjusted_logits(std::span<const float> logits, uint32_t position,
                                           const program::ColumnSampling& sampling) {
  std::vector<float> values(logits.begin(), logits.end());
  for (const auto& adjustment : sampling.adjustments) {
    const auto id = static_cast<size_t>(adjustment.token_id);
    const float logit = values[id];
    const float scaled = logit > 0 ? logit / adjustment.repetition : logit * adjustment.repetition;
    values[id] = scaled + adjustment.bias;
    if (!(values[id] < kInfinity)) return bad_logit("adjusted logit", position, id, values[id]);
  }
  if (!sampling.allowed.empty()) US_TRY(mask_logits(sampling.allowed, position, values));
  if (values[argmax(values)] == -kInfinity) {
    return bad_logit("largest adjusted logit", position, argmax(values), -kInfinity);
  }
  return values;
}

// REQUIRES: a temperature above 0.
Candidates make_candidates(std::span<const float> values, const program::ColumnSampling& sampling) {
  US_CHECK(sampling.temperature > 0 && sampling.temperature < kInfinity, "temperature {}",
           sampling.temperature);
  US_CHECK(sampling.top_p > 0, "top_p {}", sampling.top_p);
  US_CHECK(sampling.min_p >= 0 && sampling.min_p < 1, "min_p {}", sampling.min_p);
  Candidates candidates(values, sampling.temperature);
  candidates.keep_top_k(sampling.top_k);
  candidates.keep_top_p(sampling.top_p);
  candidates.keep_min_p(sampling.min_p);
  return candidates;
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
  const Candidates candidates = make_candidates(values, sampling);
  if (sampling.proposed_token_id >= 0 && draft == nullptr) {
    const auto proposed = static_cast<uint32_t>(sampling.proposed_token_id);
    std::vector<double> q(values.size(), 0);
    q[proposed] = 1;
    return verify_draft(candidates, q, proposed, position, sampling);
  }
  if (draft == nullptr) return candidates.choose(sampling.seed, position);
  const uint32_t likeliest = argmax(draft->logits);
  const float most = draft->logits[likeliest];
  if (!std::isfinite(most)) return bad_logit("drafter's logit", position, likeliest, most);
  const std::vector<double> q = make_candidates(draft->logits, sampling).probabilities();
  return verify_draft(candidates, q, draft->token_id, position, sampling);
}

Result<uint32_t> chosen_token(std::span<const float> logits, uint32_t position,
                              const program::ColumnSampling& sampling, const DrawnDraft* draft) {
  US_TRY(program::check_sampling(sampling, position, logits.size()));
  if (sampling.forced_token_id >= 0) return static_cast<uint32_t>(sampling.forced_token_id);
  if (sampling.adjustments.empty() && sampling.allowed.empty()) {
    return choose(logits, position, sampling, draft);
  }
  US_ASSIGN(const std::vector<float> values, adjusted_logits(logits, position, sampling));
  return choose(values, position, sampling, draft);
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
  return make_candidates(logits, sampling).choose(seed, stream);
}

Result<std::vector<double>> sampling_probabilities(std::span<const float> logits, uint32_t position,
                                                   const program::ColumnSampling& sampling) {
  US_TRY(program::check_sampling(sampling, position, logits.size()));
  US_ASSIGN(const std::vector<float> values, adjusted_logits(logits, position, sampling));
  return make_candidates(values, sampling).probabilities();
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
  const float* logits = context.buffer(op.logits);
  for (uint32_t t = context.task.row_begin; t < context.row_end(); ++t) {
    if (t >= context.num_columns() || !context.input.columns[t].wants_logits) continue;
    const program::Column& column = context.input.columns[t];
    const std::optional<DrawnDraft> draft = drawn_draft(context, op, t);
    US_ASSIGN(context.output->columns[t],
              sample_column({logits + uint64_t{t} * op.vocab_size, op.vocab_size}, column.position,
                            column.sampling, draft ? &*draft : nullptr));
    context.words(op.sampled)[t] = static_cast<uint32_t>(context.output->columns[t].token_id);
  }
  return {};
}

}  // namespace ultraspeed::cpu
