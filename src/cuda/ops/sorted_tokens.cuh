// Tokens in their order, a batch after the other in the shared memory of each CTA of a team: what
// top-k, top-p and the most likely tokens of a column are read from.
#pragma once

#include <cstdint>

#include "cuda/ops/token_values.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kBatchTokens = 2048;
inline constexpr uint32_t kNumSteps = TeamShared::kMost;

struct SortShared {
  uint64_t keys[kBatchTokens];
  uint64_t collected[kBatchTokens];  // by this CTA
  TeamShared team;
  uint32_t counts[kNumSteps];  // of this CTA's tokens
  uint32_t num_collected;
};

// All threads of the team call these together. REQUIRES: no value is NaN.
class SortedTokens {
 public:
  __device__ SortedTokens(const TokenValues& values, float largest, SortShared* shared)
      : values_(values), shared_(shared), from_(largest), num_left_(values.vocab_size) {}

  __device__ uint32_t num_left() const { return num_left_; }
  __device__ uint64_t key(uint32_t i) const { return shared_->keys[i]; }

  // The next tokens, keys in order: `want` or more of them, as far as there are any and a batch has
  // room. Returns how many.
  __device__ uint32_t next(uint32_t want) {
    want = min(want, min(kBatchTokens, num_left_));
    if (want == 0) return 0;
    const uint64_t least = least_key(want);
    const uint32_t count = collect(least);
    sort(count);
    bound_ = least;
    from_ = value_of(shared_->keys[count - 1]);
    num_left_ -= count;
    return count;
  }

 private:
  __device__ float step(uint32_t i) const { return from_ - ldexpf(0.25F, static_cast<int>(i)); }
  __device__ uint64_t step_key(uint32_t i) const { return uint64_t{order_of(step(i))} << 32; }

  // A key such that `want` to kBatchTokens of the tokens left are not below it: a step below the
  // largest, or a point between two steps.
  __device__ uint64_t least_key(uint32_t want) const {
    count_steps();
    uint32_t i = 0;
    while (i < kNumSteps && shared_->counts[i] < want) ++i;
    uint64_t low = i < kNumSteps ? step_key(i) : 0;
    uint32_t count = i < kNumSteps ? shared_->counts[i] : num_left_;
    uint64_t high = i == 0 ? bound_ : step_key(i - 1);
    while (count > kBatchTokens) {
      const uint64_t middle = low + (high - low) / 2;
      const uint32_t above = count_from(middle);
      if (above < want) {
        high = middle;
      } else {
        low = middle;
        count = above;
      }
    }
    return low;
  }

  // counts[i] = the number of tokens left that are not below step i.
  __device__ void count_steps() const {
    uint32_t orders[kNumSteps];
    uint32_t counts[kNumSteps] = {};
#pragma unroll
    for (uint32_t i = 0; i < kNumSteps; ++i) orders[i] = order_of(step(i));
    for_each_token(values_, [&](uint32_t id, float value) {
      const uint64_t key = key_of(value, id);
      if (key >= bound_) return;
      const auto order = static_cast<uint32_t>(key >> 32);
#pragma unroll
      for (uint32_t i = 0; i < kNumSteps; ++i) counts[i] += order >= orders[i] ? 1 : 0;
    });
    task_barrier();
    if (threadIdx.x < kNumSteps) shared_->counts[threadIdx.x] = 0;
    task_barrier();
#pragma unroll
    for (uint32_t i = 0; i < kNumSteps; ++i) {
      const uint32_t of_warp = __reduce_add_sync(kWholeWarp, counts[i]);
      if (threadIdx.x % kWarpThreads == 0) atomicAdd(&shared_->counts[i], of_warp);
    }
    const auto* of_ctas = team_exchange<kNumSteps>(
        &shared_->team, [&](uint32_t i) { return uint64_t{shared_->counts[i]}; });
    if (threadIdx.x < kNumSteps) {
      uint64_t count = 0;
      for (uint32_t cta = 0; cta < ptx::cluster_num_ctas(); ++cta)
        count += of_ctas[cta].of[threadIdx.x];
      shared_->counts[threadIdx.x] = static_cast<uint32_t>(count);
    }
    task_barrier();
  }

  __device__ uint32_t count_from(uint64_t least) const {
    uint64_t count = 0;
    for_each_token(values_, [&](uint32_t id, float value) {
      const uint64_t key = key_of(value, id);
      count += key >= least && key < bound_ ? 1 : 0;
    });
    return static_cast<uint32_t>(team_sum(count, &shared_->team));
  }

  // Each CTA its share, then all CTAs those of all.
  __device__ uint32_t collect(uint64_t least) const {
    task_barrier();  // the batch before has been sent
    if (threadIdx.x == 0) shared_->num_collected = 0;
    task_barrier();
    for_each_token(values_, [&](uint32_t id, float value) {
      const uint64_t key = key_of(value, id);
      if (key < least || key >= bound_) return;
      shared_->collected[atomicAdd(&shared_->num_collected, 1)] = key;
    });
    // Behind this exchange all CTAs have read the batch before.
    const auto* of_ctas = team_exchange<1>(
        &shared_->team, [&](uint32_t) { return uint64_t{shared_->num_collected}; });
    uint32_t first = 0, count = 0;
    for (uint32_t cta = 0; cta < ptx::cluster_num_ctas(); ++cta) {
      if (cta == ptx::cluster_cta_rank()) first = count;
      count += static_cast<uint32_t>(of_ctas[cta].of[0]);
    }
    for (uint32_t i = threadIdx.x; i < shared_->num_collected; i += kTaskThreads) {
      const uint32_t to = ptx::smem_address(&shared_->keys[first + i]);
      for (uint32_t cta = 0; cta < ptx::cluster_num_ctas(); ++cta) {
        ptx::store_shared_cluster(ptx::map_shared_rank(to, cta), shared_->collected[i]);
      }
    }
    team_barrier();
    return count;
  }

  // A bitonic network, descending, over the keys and as many zeros as it needs.
  __device__ void sort(uint32_t count) const {
    uint32_t size = 1;
    while (size < count) size *= 2;
    for (uint32_t i = count + threadIdx.x; i < size; i += kTaskThreads) shared_->keys[i] = 0;
    task_barrier();
    for (uint32_t run = 2; run <= size; run *= 2) {
      for (uint32_t distance = run / 2; distance > 0; distance /= 2) {
        for (uint32_t i = threadIdx.x; i < size / 2; i += kTaskThreads) {
          const uint32_t first = 2 * i - (i & (distance - 1));
          uint64_t& a = shared_->keys[first];
          uint64_t& b = shared_->keys[first + distance];
          if ((a < b) != ((first & run) == 0)) continue;
          const uint64_t key = a;
          a = b;
          b = key;
        }
        task_barrier();
      }
    }
  }

  const TokenValues& values_;
  SortShared* shared_;
  uint64_t bound_ = ~uint64_t{0};  // tokens from here on have been taken
  float from_;                     // the largest value left is at most this
  uint32_t num_left_;
};

}  // namespace ultraspeed::cuda
