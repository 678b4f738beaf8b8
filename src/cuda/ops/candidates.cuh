// The tokens that a column may choose, as Sample narrows them down. Top-k and top-p keep the first
// tokens in order, hence everything from some key on; min-p is looked at with each token.
#pragma once

#include <cstdint>

#include "base/philox.h"
#include "cuda/ops/sorted_tokens.cuh"

namespace ultraspeed::cuda {

struct CandidatesShared {
  SortShared sort;
  double weights[kBatchTokens];
};

// Standard Gumbel noise (base/philox.h).
inline __device__ double gumbel_noise(uint32_t bits) {
  return -log(-log(uniform_from_bits(bits)));
}

// Not below gumbel_noise() of these bits, and mostly not far above it: binary32 has it within 1e-3
// where 1 - u is not small.
inline __device__ double gumbel_bound(uint32_t bits) {
  if (bits >= 0xff000000u) return kMaxGumbel;
  const float uniform = (static_cast<float>(bits) + 0.5F) * 0x1p-32F;
  return 1e-3F - logf(-logf(uniform));
}

// All threads of the team call these together. REQUIRES: a temperature above 0, top_p > 0, 0 <=
// min_p < 1; `largest` is the largest value, and finite.
class Candidates {
 public:
  __device__ Candidates(const TokenValues& values, float largest, const StepColumn& sampling,
                        CandidatesShared* shared)
      : values_(values),
        largest_(largest),
        temperature_(sampling.temperature),
        min_p_(sampling.min_p),
        shared_(shared) {
    keep_top_k(sampling.top_k);
    keep_top_p(sampling.top_p);
  }

  // The argmax of x + noise.
  __device__ uint32_t choose(uint64_t seed, uint32_t position) const {
    return noisiest(seed, position, kNoId,
                    [&](uint32_t, float value) { return log_weight(value); });
  }

  // A token's probability.
  __device__ double probability(uint32_t id, double sum) const {
    const float value = values_.of(id, values_.logits[id]);
    return contains(key_of(value, id), value) ? weight(value) / sum : 0;
  }

  // The sum of the weights exp(x - largest x).
  __device__ double sum_of_weights() const {
    return sum_of([&](uint32_t id, float value) { return contains(key_of(value, id), value); });
  }

  // What replaces the draft: another token by what its probability has beyond q(id).
  template <class Probability>
  __device__ uint32_t recover(uint64_t seed, uint32_t position, uint32_t draft, double sum,
                              const Probability& q) const {
    return noisiest(seed, position, draft, [&](uint32_t id, float value) {
      const double more = weight(value) / sum - q(id);
      return more > 0 ? log(more) : static_cast<double>(minus_infinity());
    });
  }

 private:
  __device__ double log_weight(float value) const { return (value - largest_) / temperature_; }
  __device__ double weight(float value) const { return exp(log_weight(value)); }
  __device__ bool contains(uint64_t key, float value) const {
    return key >= least_key_ && (min_p_ <= 0 || weight(value) >= min_p_);
  }

  __device__ void keep_top_k(uint32_t top_k) {
    if (top_k == 0 || top_k >= values_.vocab_size) return;
    SortedTokens tokens(values_, static_cast<float>(largest_), &shared_->sort);
    for (uint32_t taken = 0;;) {
      const uint32_t count = tokens.next(top_k - taken);
      if (taken + count >= top_k) {
        least_key_ = tokens.key(top_k - taken - 1);
        return;
      }
      taken += count;
    }
  }

  // The batches grow as those of the CPU do.
  __device__ void keep_top_p(double top_p) {
    if (top_p >= 1) return;
    const double enough = top_p * sum_before_min_p();
    SortedTokens tokens(values_, static_cast<float>(largest_), &shared_->sort);
    double reached = 0;
    for (uint32_t taken = 0; tokens.num_left() > 0;) {
      const uint32_t count = tokens.next(max(64, 3 * taken));
      for (uint32_t i = threadIdx.x; i < count; i += kTaskThreads) {
        shared_->weights[i] = weight(value_of(tokens.key(i)));
      }
      task_barrier();
      for (uint32_t i = 0; i < count; ++i) {
        if (tokens.key(i) < least_key_) return;
        reached += shared_->weights[i];
        if (reached < enough) continue;
        least_key_ = tokens.key(i);
        return;
      }
      taken += count;
    }
  }

  __device__ double sum_before_min_p() const {
    return sum_of([&](uint32_t id, float value) { return key_of(value, id) >= least_key_; });
  }

  // Of the weights of tokens that satisfy.
  template <class Predicate>
  __device__ double sum_of(const Predicate& satisfies) const {
    return team_sum_in_order(values_.vocab_size, &shared_->sort.team, [&](const TeamShare& share) {
      double sum = 0;
      for_each_token(values_, share, [&](uint32_t id, float value) {
        if (satisfies(id, value)) sum += weight(value);
      });
      return sum;
    });
  }

  // The candidate, but for `excluded`, with the largest log_of(id, value) + noise, the lower id of
  // equals. A thread takes tokens that share a Philox group, and skips what could not win.
  template <class LogOf>
  __device__ uint32_t noisiest(uint64_t seed, uint32_t position, uint32_t excluded,
                               const LogOf& log_of) const {
    constexpr uint32_t kGroup = 4;
    const double nothing = static_cast<double>(minus_infinity());
    const TeamShare share(values_.vocab_size);
    const uint32_t lane = threadIdx.x % kWarpThreads;
    double best = nothing;
    double reached = nothing;  // by a thread of the warp
    uint32_t best_id = kNoId;
    float next[kGroup];
    const auto load = [&](uint32_t first) {
#pragma unroll
      for (uint32_t i = 0; i < kGroup; ++i) {
        next[i] = first + i < share.end ? values_.logits[first + i] : 0.0F;
      }
    };
    uint32_t of_warp = share.begin + kGroup * (threadIdx.x - lane);
    load(of_warp + kGroup * lane);
    for (; of_warp < share.end; of_warp += kGroup * kTaskThreads) {  // whole warps
      const uint32_t first = of_warp + kGroup * lane;
      const float logits[kGroup] = {next[0], next[1], next[2], next[3]};
      load(first + kGroup * kTaskThreads);
      PhiloxCounter words = {};
      bool has_words = false;
#pragma unroll
      for (uint32_t i = 0; i < kGroup; ++i) {
        const uint32_t id = first + i;
        if (id >= share.end || id == excluded) continue;
        const float value = values_.of(id, logits[i]);
        if (!contains(key_of(value, id), value)) continue;
        const double x = log_of(id, value);
        if (x + kMaxGumbel < reached) continue;
        if (!has_words) words = random_group(seed, position, first / kGroup);
        has_words = true;
        if (x + gumbel_bound(words[i]) < reached) continue;
        const double noisy = x + gumbel_noise(words[i]);
        if (noisy <= best) continue;
        best = noisy;
        best_id = id;
        reached = max(reached, best);
      }
      reached = share_reached(reached);
    }
    const double most = team_max(best, &shared_->sort.team);
    const uint64_t winner = most > nothing && best == most ? best_id : kNoId;
    const auto id = static_cast<uint32_t>(team_min(winner, &shared_->sort.team));
    return id == kNoId ? excluded : id;
  }

  // At most the largest of the warp's.
  __device__ static double share_reached(double reached) {
    const uint32_t order = order_of(__double2float_rd(reached));
    return value_of(uint64_t{__reduce_max_sync(kWholeWarp, order)} << 32);
  }

  const TokenValues& values_;
  double largest_;
  double temperature_;
  double min_p_;
  CandidatesShared* shared_;
  uint64_t least_key_ = 0;
};

// The draft with probability min(1, p / q), else what replaces it: cpu/ops/rejection.h. q(id): the
// probabilities that it was drawn with. All threads of the team.
template <class Probability>
__device__ uint32_t verify_draft(const Candidates& candidates, uint32_t draft,
                                 const StepColumn& sampling, const Probability& q) {
  const uint64_t accept_seed = seed_for(sampling.seed, RandomPurpose::kAcceptDraft);
  const uint64_t recover_seed = seed_for(sampling.seed, RandomPurpose::kRecoverToken);
  const double sum = candidates.sum_of_weights();
  const double uniform = random_uniform(accept_seed, sampling.position, 0);
  if (uniform * q(draft) < candidates.probability(draft, sum)) return draft;
  return candidates.recover(recover_seed, sampling.position, draft, sum, q);
}

}  // namespace ultraspeed::cuda
