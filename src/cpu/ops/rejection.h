// Rejection sampling of a draft token: Leviathan, Kalman and Matias, "Fast Inference from
// Transformers via Speculative Decoding" (2023), section 2.3. Whatever the drafter is, the token
// that results is distributed as the target's, if the draft was drawn from q and nothing else: the
// same truncation, and noise that has no part in the uniform number or the recovery.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>

#include "base/check.h"

namespace ultraspeed::cpu {

struct DraftVerdict {
  bool is_accepted = false;
  uint32_t token_id = 0;  // the draft, or what replaces it
};

// Accepts `draft` with probability min(1, p[draft] / q[draft]); else chooses by max(0, p - q): the
// argmax of its logarithm plus noise(id), standard Gumbel variates. p, q: [vocab_size], the
// target's and the drafter's probabilities after temperature and truncation, each with sum 1. A
// drafter that proposes without chance has 1 at the draft. REQUIRES: q[draft] > 0, uniform in (0,
// 1).
template <class Noise>
DraftVerdict accept_or_recover(std::span<const double> p, std::span<const double> q, uint32_t draft,
                               double uniform, const Noise& noise) {
  US_CHECK(p.size() == q.size() && draft < p.size(), "{} and {} tokens, draft {}", p.size(),
           q.size(), draft);
  US_CHECK(q[draft] > 0, "a draft of probability {}", q[draft]);
  if (uniform * q[draft] < p[draft]) return {true, draft};
  double best = -std::numeric_limits<double>::infinity();
  uint32_t best_id = draft;
  for (uint32_t id = 0; id < p.size(); ++id) {
    if (p[id] <= q[id]) continue;
    const double noisy = std::log(p[id] - q[id]) + noise(id);
    if (noisy <= best) continue;
    best = noisy;
    best_id = id;
  }
  return {false, best_id};
}

}  // namespace ultraspeed::cpu
