// Sample: from one column's logits to the token that is chosen after it. docs/program.md has the
// operation, program/step.h the meaning of its parameters.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "program/step.h"

namespace ultraspeed::cpu {

// A draft that was drawn by chance.
struct DrawnDraft {
  std::span<const float> logits;  // the drafter's [vocab_size]
  uint32_t token_id = 0;
};

// The choice for logits f32 [vocab_size] of the column at `position`. In order:
//   raw     log-softmax of the logits: the reported logprobs (docs/numerics.md section 2)
//   adjust  ColumnSampling::adjustments, repetition first, then bias; tokens that are not allowed
//           get -infinity
//   greedy  temperature 0: the largest adjusted logit; below, x = adjusted logit / temperature and
//           probabilities are softmax(x) over what the previous step left
//   top_k   the top_k largest x
//   top_p   the fewest largest x whose probabilities sum to top_p or more; at least one
//   min_p   those with probability >= min_p * the largest probability
//   choose  argmax of x + Gumbel noise of (seed, stream `position`, index token id), base/philox.h
//           with a draft, or a proposed token: by rejection sampling (cpu/ops/rejection.h), with
//           noise of seeds of their own at the same stream; q is what the draft was drawn from, 1
//           at a proposed token
// Wherever logits are equal the lower id comes first. The noise is keyed by the position of the
// column itself, the one before the chosen token's; so the choice is a pure function of the
// arguments, whoever asks, in whatever batch. A forced token is "chosen" without any of this.
// top_logprobs gets min(num_logprobs, vocab_size) entries; `accepted` is left to Accept.
// Errors: kInvalidData when a logit (raw or adjusted) is NaN or +infinity, or all are -infinity;
// kInvalidArgument for an adjusted or forced token id outside the vocabulary, a mask of another
// size, and where no token is allowed.
// With a draft also kInvalidData when the largest of the drafter's logits is not finite.
// REQUIRES: temperature >= 0, top_p > 0, 0 <= min_p < 1, all finite; the draft is what draw_draft()
// gave for its logits and this sampling.
Result<program::ColumnOutput> sample_column(std::span<const float> logits, uint32_t position,
                                            const program::ColumnSampling& sampling,
                                            const DrawnDraft* draft = nullptr);

// A token by the drafter's logits f32 [vocab_size]: temperature, top_k, top_p, min_p as above, then
// argmax of x + Gumbel noise of a seed of its own at this stream: for a drafted column the position
// of the column before, for an MTP head program::draft_stream(). Where no logit is finite, or one
// is NaN or +infinity, the first of the largest. REQUIRES: as sample_column(), and a temperature
// above 0.
uint32_t draw_draft(std::span<const float> logits, uint32_t stream,
                    const program::ColumnSampling& sampling);

// What the steps before `choose` leave: the probabilities f64 [vocab_size] of each token.
// Errors: as sample_column(). REQUIRES: the same, and a temperature above 0.
Result<std::vector<double>> sampling_probabilities(std::span<const float> logits, uint32_t position,
                                                   const program::ColumnSampling& sampling);

}  // namespace ultraspeed::cpu
