// The logits of a column as the steps of sampling see them: as they are, or adjusted and masked on
// the fly.
#pragma once

#include <cstdint>

#include "cuda/ops/softmax_state.cuh"
#include "cuda/ops/team.cuh"
#include "cuda/ops/token_order.cuh"

namespace ultraspeed::cuda {

struct TokenValues {
  const float* logits = nullptr;  // [vocab_size]
  uint32_t vocab_size = 0;
  const uint64_t* mask = nullptr;               // tokens that may be chosen; nullptr: all
  const StepAdjustment* adjustments = nullptr;  // by ascending id
  uint32_t num_adjustments = 0;
  const uint32_t* adjusted_bits = nullptr;  // shared; ids that have adjustments; nullptr: none

  __device__ bool is_allowed(uint32_t id) const {
    return mask == nullptr || (mask[id / 64] >> id % 64 & 1) != 0;
  }

  // The value of a token with this logit.
  __device__ float of(uint32_t id, float logit) const {
    if (!is_allowed(id)) return minus_infinity();
    if (adjusted_bits == nullptr || (adjusted_bits[id / 32] >> id % 32 & 1) == 0) return logit;
    return adjusted(id, logit);
  }

  __device__ float adjusted(uint32_t id, float logit) const {
    uint32_t begin = 0;
    for (uint32_t end = num_adjustments; begin < end;) {
      const uint32_t middle = begin + (end - begin) / 2;
      if (static_cast<uint32_t>(adjustments[middle].token_id) < id) {
        begin = middle + 1;
      } else {
        end = middle;
      }
    }
    for (uint32_t i = begin; i < num_adjustments; ++i) {
      if (static_cast<uint32_t>(adjustments[i].token_id) != id) break;
      const float repetition = adjustments[i].repetition;
      logit = (logit > 0 ? logit / repetition : logit * repetition) + adjustments[i].bias;
    }
    return logit;
  }
};

// Calls function(id, value) for the calling thread's tokens of a share, ascending. Loads go ahead.
template <uint32_t kAhead = 8, class Function>
__device__ void for_each_token(const TokenValues& values, const TeamShare& share,
                               const Function& function) {
  for (uint32_t first = share.begin + threadIdx.x; first < share.end;
       first += kAhead * kTaskThreads) {
    float logits[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint32_t id = first + i * kTaskThreads;
      logits[i] = id < share.end ? values.logits[id] : 0.0F;
    }
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint32_t id = first + i * kTaskThreads;
      if (id < share.end) function(id, values.of(id, logits[i]));
    }
  }
}

// Of its CTA's share.
template <uint32_t kAhead = 8, class Function>
__device__ void for_each_token(const TokenValues& values, const Function& function) {
  for_each_token<kAhead>(values, TeamShare(values.vocab_size), function);
}

// Of a thread's tokens, which come by ascending id, the first of the largest values.
class LargestToken {
 public:
  __device__ void add(uint32_t id, float value) {
    const uint32_t order = order_of(value);
    id_ = order > order_ ? id : id_;
    order_ = max(order, order_);
  }
  // 0: there was none.
  __device__ uint64_t key() const { return order_ == 0 ? 0 : key_of_order(order_, id_); }

 private:
  uint32_t order_ = 0, id_ = 0;  // 0: no value's order
};

// The key of the first of the largest values. All threads of the team.
inline __device__ uint64_t largest_key(const TokenValues& values, TeamShared* shared) {
  constexpr uint32_t kAhead = 8;  // loads in flight, of four tokens each
  LargestToken best;
  const TeamShare share(values.vocab_size);
  if (reinterpret_cast<uint64_t>(values.logits) % sizeof(float4) != 0) {
    for_each_token<16>(values, [&](uint32_t id, float value) { best.add(id, value); });
    return team_max(best.key(), shared);
  }
  const auto* fours = reinterpret_cast<const float4*>(values.logits);
  const uint32_t end = share.end / 4;
  for (uint32_t first = share.begin / 4 + threadIdx.x; first < end;
       first += kAhead * kTaskThreads) {
    float4 logits[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      logits[i] = fours[min(first + i * kTaskThreads, end - 1)];  // the last one again
    }
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint32_t id = 4 * min(first + i * kTaskThreads, end - 1);
      best.add(id, values.of(id, logits[i].x));
      best.add(id + 1, values.of(id + 1, logits[i].y));
      best.add(id + 2, values.of(id + 2, logits[i].z));
      best.add(id + 3, values.of(id + 3, logits[i].w));
    }
  }
  const uint32_t behind = 4 * end + threadIdx.x;  // the last, if they are not four
  if (behind >= share.begin && behind < share.end) {
    best.add(behind, values.of(behind, values.logits[behind]));
  }
  return team_max(best.key(), shared);
}

}  // namespace ultraspeed::cuda
