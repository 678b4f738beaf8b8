// Drafts that are drawn from the drafter's distribution: Propose draws them, Sample verifies them
// by the same distribution. cpu/ops/sample.h has the definition.
#pragma once

#include "cuda/ops/candidates.cuh"
#include "cuda/ops/context.cuh"

namespace ultraspeed::cuda {

struct DrawnDraft {
  const float* logits = nullptr;  // the drafter's [vocab_size]; nullptr: nothing was drawn
  uint32_t token_id = 0;
};

// Whether what is drafted to follow a column's choice is drawn (program/step.h).
inline __device__ bool draws(const StepColumn& column) {
  return column.draws_draft != 0 && column.temperature > 0;
}

// A token by the drafter's logits and the parameters of the column that it is to follow; its noise
// is of this stream. All threads of the team.
inline __device__ uint32_t draw_draft(const TokenValues& values, const StepColumn& sampling,
                                      uint32_t stream, CandidatesShared* shared) {
  const uint64_t best = largest_key(values, &shared->sort.team);
  if (!isfinite(values.logits[id_of(best)])) return id_of(best);
  const Candidates candidates(values, value_of(best), sampling, shared);
  const uint64_t seed = seed_for(sampling.seed, RandomPurpose::kDraftToken);
  return candidates.choose(seed, stream);
}

}  // namespace ultraspeed::cuda
