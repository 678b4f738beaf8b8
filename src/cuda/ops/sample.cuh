// Sample: from a column's logits to the token that is chosen after it. cpu/ops/sample.h has the
// steps; this is their twin, a team a column. Logits are never written.
#pragma once

#include "cuda/ops/drawn_draft.cuh"

namespace ultraspeed::cuda {

// The largest vocabulary: shared memory has a sum for each of its pieces and a bit for each token.
inline constexpr uint32_t kMaxVocabulary = 1u << 19;

struct SampleShared {
  CandidatesShared candidates;
  float pieces[kMaxVocabulary / kTeamPiece];  // of the team's first CTA
  uint32_t adjusted_bits[kMaxVocabulary / 32];
};

template <>
inline constexpr uint32_t kSharedBytes<program::SampleOperands> = sizeof(SampleShared);
template <>
inline constexpr uint32_t kTaskBlocks<program::SampleOperands> = kTeamCtas;
template <>
inline constexpr bool kIsCluster<program::SampleOperands> = true;

constexpr const char* limit_of(const program::SampleOperands& op, uint32_t) {
  return op.vocab_size <= kMaxVocabulary ? nullptr : "a vocabulary of more than 524288";
}

// One column. All threads of the team call its functions together and get the same results.
// REQUIRES: adjustments, mask, forced and proposed token fit the vocabulary.
class ColumnSampler {
 public:
  __device__ ColumnSampler(const OpContext& context, const program::SampleOperands& op, uint32_t t,
                           SampleShared* shared)
      : context_(context),
        op_(op),
        next_(t + 1),
        column_(context.column(t)),
        shared_(shared),
        raw_{context.buffer(op.logits) + uint64_t{t} * op.vocab_size, op.vocab_size},
        values_(raw_),
        result_(context.step().results[t]) {}

  // The chosen token, or 0 where it reports an error.
  __device__ uint32_t run() {
    const uint64_t best = largest_key(raw_, team());
    const float largest = raw_.logits[id_of(best)];
    if (!(largest < -minus_infinity())) return fail(SampleError::kLogit, id_of(best), largest);
    if (largest == minus_infinity()) return fail(SampleError::kNoLogit, id_of(best), largest);
    const double log_sum = log_sum_exp(largest);
    uint32_t token_id = 0;
    if (column_.forced_token_id >= 0) {
      token_id = static_cast<uint32_t>(column_.forced_token_id);
    } else {
      const uint64_t adjusted_best = adjust(best);
      if (adjusted_best == 0) return 0;
      token_id = choose(adjusted_best);
      if (token_id == kNoId) return 0;
    }
    if (is_first_of_team()) {
      result_.token_id = static_cast<int32_t>(token_id);
      result_.logprob = logprob(token_id, log_sum);
      result_.logit = raw_.logits[token_id];
      result_.error = SampleError::kNone;
    }
    store_logprobs(largest, log_sum);
    return token_id;
  }

 private:
  __device__ TeamShared* team() { return &shared_->candidates.sort.team; }

  __device__ uint32_t fail(SampleError error, uint32_t token_id, float value) {
    if (is_first_of_team()) {
      result_.error = error;
      result_.error_token = token_id;
      result_.error_value = value;
    }
    return 0;
  }

  __device__ float logprob(uint32_t id, double log_sum) const {
    return static_cast<float>(raw_.logits[id] - log_sum);
  }

  // log_sum such that logit - log_sum is the log-probability: pieces of 1024 tokens, each by a
  // half-warp, added in order (docs/numerics.md section 2). expf() is within 1 ulp, as the CPU's
  // is. On the first CTA; the others get 0.
  __device__ double log_sum_exp(float largest) const {
    constexpr uint32_t kTurn = kHalfWarps * kTeamPiece;
    constexpr uint32_t kAhead = 32;  // loads in flight, while as many are added
    constexpr uint32_t kBatch = kAhead * kDotLanes;
    static_assert(kTeamPiece == 2 * kBatch);
    const TeamShare share(raw_.vocab_size);
    // Of a batch, what its piece and the share do not have adds 0.
    const auto load = [&](uint32_t begin, float(&logits)[kAhead]) {
      const uint32_t end = min(share.end, begin + kBatch);
#pragma unroll
      for (uint32_t i = 0; i < kAhead; ++i) {
        const uint32_t id = begin + dot_lane() + i * kDotLanes;
        logits[i] = id < end ? raw_.logits[id] : minus_infinity();
      }
    };
    const auto add = [&](const float(&logits)[kAhead], float& sum) {
#pragma unroll
      for (const float logit : logits) sum += expf(logit - largest);
    };
    float even[kAhead], odd[kAhead];
    load(share.begin + half_warp() * kTeamPiece, even);
    for (uint32_t first = share.begin; first < share.end; first += kTurn) {  // whole warps
      const uint32_t begin = first + half_warp() * kTeamPiece;
      float lane_sum = 0;
      load(begin + kBatch, odd);
      add(even, lane_sum);
      load(begin + kTurn, even);
      add(odd, lane_sum);
      const float sum = half_warp_tree(lane_sum);
      if (dot_lane() != 0 || begin >= share.end) continue;
      const uint32_t piece = ptx::smem_address(&shared_->pieces[begin / kTeamPiece]);
      ptx::store_shared_cluster(ptx::map_shared_rank(piece, 0), sum);
    }
    team_barrier();  // all pieces are there; those of the column before had been read in run()
    if (ptx::cluster_cta_rank() != 0) return 0;
    double sum = 0;
#pragma unroll 8
    for (uint32_t i = 0; i * kTeamPiece < raw_.vocab_size; ++i) sum += shared_->pieces[i];
    return largest + log(sum);
  }

  // Lets values_ apply adjustments and mask. Returns the key of the first of the largest values, or
  // 0 where it reports an error.
  __device__ uint64_t adjust(uint64_t raw_best) {
    const bool is_masked = column_.first_mask_word != kNoId;
    if (column_.num_adjustments == 0 && !is_masked) return raw_best;
    if (column_.num_adjustments > 0 && !set_adjustments()) return 0;
    if (is_masked) {
      values_.mask = context_.step().mask_words + column_.first_mask_word;
      uint64_t num_allowed = 0;
      const TeamShare share(values_.vocab_size);
      for (uint32_t id = share.begin + threadIdx.x; id < share.end; id += kTaskThreads) {
        num_allowed += values_.is_allowed(id) ? 1 : 0;
      }
      if (team_sum(num_allowed, team()) == 0) {
        return fail(SampleError::kNothingAllowed, 0, 0);
      }
    }
    const uint64_t best = largest_key(values_, team());
    if (value_of(best) > minus_infinity()) return best;
    return fail(SampleError::kNoAdjustedLogit, id_of(best), minus_infinity());
  }

  // Returns whether the adjusted logits are numbers.
  __device__ bool set_adjustments() {
    values_.adjustments = context_.step().adjustments + column_.first_adjustment;
    values_.num_adjustments = column_.num_adjustments;
    values_.adjusted_bits = shared_->adjusted_bits;
    task_barrier();  // of the column before
    for (uint32_t i = threadIdx.x; i * 32 < values_.vocab_size; i += kTaskThreads) {
      shared_->adjusted_bits[i] = 0;
    }
    task_barrier();
    uint64_t first_bad = kNoId;  // every CTA finds it
    for (uint32_t i = threadIdx.x; i < values_.num_adjustments; i += kTaskThreads) {
      const auto id = static_cast<uint32_t>(values_.adjustments[i].token_id);
      atomicOr(&shared_->adjusted_bits[id / 32], 1u << id % 32);
      const float value = values_.adjusted(id, raw_.logits[id]);
      if (!(value < -minus_infinity())) first_bad = min(first_bad, uint64_t{id});
    }
    // Its barriers also show all bits to all threads.
    const auto bad = static_cast<uint32_t>(block_min(first_bad, team()->of_warps));
    if (bad == kNoId) return true;
    fail(SampleError::kAdjustedLogit, bad, values_.adjusted(bad, raw_.logits[bad]));
    return false;
  }

  // kNoId where it reports an error.
  __device__ uint32_t choose(uint64_t best) {
    if (column_.temperature == 0) return id_of(best);
    const Candidates candidates(values_, value_of(best), column_, &shared_->candidates);
    const DrawnDraft draft = drawn_draft();
    if (draft.logits != nullptr) return verify(candidates, draft);
    if (column_.proposed_token_id >= 0) {  // without chance
      const auto proposed = static_cast<uint32_t>(column_.proposed_token_id);
      return verify_draft(candidates, proposed, column_,
                          [=](uint32_t id) { return id == proposed ? 1.0 : 0.0; });
    }
    return candidates.choose(column_.seed, column_.position);
  }

  // What was drawn to follow the column, in this step or in the one before.
  __device__ DrawnDraft drawn_draft() const {
    if (column_.proposed_token_id >= 0) {
      if (column_.first_proposed_logit == kNoId) return {};
      return {context_.step().proposed_logits + column_.first_proposed_logit,
              static_cast<uint32_t>(column_.proposed_token_id)};
    }
    if (op_.draft_logits == kNoId || next_ == context_.num_columns() ||
        context_.column(next_).is_drafted == 0 || !draws(column_)) {
      return {};
    }
    return {context_.buffer(op_.draft_logits) + uint64_t{next_} * op_.vocab_size,
            context_.words(op_.drafted)[next_]};
  }

  __device__ uint32_t verify(const Candidates& candidates, const DrawnDraft& draft) {
    const TokenValues values{draft.logits, op_.vocab_size};
    const uint64_t best = largest_key(values, team());
    const float largest = draft.logits[id_of(best)];
    if (!isfinite(largest)) {
      fail(SampleError::kDraftLogit, id_of(best), largest);
      return kNoId;
    }
    const Candidates drafter(values, value_of(best), column_, &shared_->candidates);
    const double sum = drafter.sum_of_weights();
    return verify_draft(candidates, draft.token_id, column_,
                        [&](uint32_t id) { return drafter.probability(id, sum); });
  }

  __device__ void store_logprobs(float largest, double log_sum) const {
    const bool is_first = ptx::cluster_cta_rank() == 0;
    const uint32_t wanted = min(column_.num_logprobs, raw_.vocab_size);
    Logprob* to = context_.step().logprobs + column_.first_logprob;
    SortedTokens tokens(raw_, largest, &shared_->candidates.sort);
    for (uint32_t taken = 0; taken < wanted;) {
      const uint32_t count = min(tokens.next(wanted - taken), wanted - taken);
      for (uint32_t i = threadIdx.x; is_first && i < count; i += kTaskThreads) {
        const uint32_t id = id_of(tokens.key(i));
        to[taken + i] = {static_cast<int32_t>(id), logprob(id, log_sum)};
      }
      taken += count;
    }
  }

  const OpContext& context_;
  const program::SampleOperands& op_;
  const uint32_t next_;
  const StepColumn& column_;
  SampleShared* shared_;
  const TokenValues raw_;
  TokenValues values_;
  ColumnResult& result_;
};

inline __device__ void run_op(const OpContext& context, const program::SampleOperands& op) {
  auto* shared = reinterpret_cast<SampleShared*>(context.shared_memory);
  begin_team(&shared->candidates.sort.team);
  const uint32_t end = min(context.row_end(), context.num_columns());
  for (uint32_t t = context.task.row_begin; t < end; ++t) {
    if (context.column(t).wants_logits == 0) continue;
    const uint32_t token_id = ColumnSampler(context, op, t, shared).run();
    if (is_first_of_team()) context.words(op.sampled)[t] = token_id;
  }
  end_team();
}

}  // namespace ultraspeed::cuda
