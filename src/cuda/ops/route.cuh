// Route: each column's top_k experts, and from them the table of live experts. One block: a warp a
// column, then a warp an expert.
#pragma once

#include "cuda/ops/dot.cuh"
#include "cuda/ops/math.cuh"
#include "cuda/ops/token_order.cuh"
#include "program/route_table.h"

namespace ultraspeed::cuda {

template <>
inline constexpr uint32_t kSharedBytes<program::RouteOperands> = 160 * 1024;

// What a step needs of shared memory.
constexpr uint64_t route_shared_bytes(uint64_t num_experts, uint64_t num_columns) {
  const uint64_t mask_words = (num_columns + kWarpThreads - 1) / kWarpThreads;
  return num_experts * (kTaskWarps * sizeof(uint64_t) + (mask_words + 1) * sizeof(uint32_t)) +
         num_columns * sizeof(float);
}

constexpr const char* limit_of(const program::RouteOperands& op, uint32_t width) {
  const bool fits =
      route_shared_bytes(op.num_experts, width) <= kSharedBytes<program::RouteOperands>;
  return fits ? nullptr : "more experts than shared memory holds for so many columns";
}

class RouteBlock {
 public:
  __device__ RouteBlock(const OpContext& context, const program::RouteOperands& op)
      : context_(context),
        op_(op),
        mask_words_((context.num_columns() + kWarpThreads - 1) / kWarpThreads),
        logits_(context.buffer(op.logits)),
        bias_(context.vector(op.bias)),
        table_(program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs)),
        keys_(reinterpret_cast<uint64_t*>(context.shared_memory)),
        masks_(reinterpret_cast<uint32_t*>(keys_ + kTaskWarps * op.num_experts)),
        first_pairs_(masks_ + op.num_experts * mask_words_),
        divisors_(reinterpret_cast<float*>(first_pairs_ + op.num_experts)) {}

  __device__ void run() {
    for (uint32_t i = threadIdx.x; i < op_.num_experts * mask_words_; i += kTaskThreads) {
      masks_[i] = 0;
    }
    __syncthreads();
    for (uint32_t t = warp(); t < context_.num_columns(); t += kTaskWarps) route_column(t);
    __syncthreads();
    count_pairs();
    __syncthreads();
    if (warp() == 0) make_slots();
    __syncthreads();
    for (uint32_t e = warp(); e < op_.num_experts; e += kTaskWarps) store_pairs(e);
  }

 private:
  __device__ static uint32_t warp() { return threadIdx.x / kWarpThreads; }
  __device__ static uint32_t lane() { return threadIdx.x % kWarpThreads; }

  __device__ float score(uint32_t t, uint32_t expert) const {
    return sigmoid(logits_[uint64_t{t} * op_.num_experts + expert]);
  }

  // Selects the column's experts, sets their bits in the masks and stores the weights' divisor.
  __device__ void route_column(uint32_t t) const {
    constexpr uint64_t kSelected = 0;  // no expert's key
    uint64_t* keys = keys_ + warp() * op_.num_experts;
    for (uint32_t e = lane(); e < op_.num_experts; e += kWarpThreads) {
      keys[e] = key_of(score(t, e) + (bias_ == nullptr ? 0.0F : bias_[e]), e);
    }
    for (uint32_t i = 0; i < op_.top_k; ++i) {
      uint64_t best = kSelected;
      for (uint32_t e = lane(); e < op_.num_experts; e += kWarpThreads) best = max(best, keys[e]);
#pragma unroll
      for (uint32_t width = kWarpThreads / 2; width > 0; width /= 2) {
        best = max(best, __shfl_xor_sync(kWholeWarp, best, width));
      }
      const uint32_t expert = id_of(best);
      if (expert % kWarpThreads == lane()) keys[expert] = kSelected;  // its own lane reads it
    }
    float sum = 0;
    for (uint32_t begin = 0; begin < op_.num_experts; begin += kWarpThreads) {
      const uint32_t e = begin + lane();
      const bool is_selected = e < op_.num_experts && keys[e] == kSelected;
      const float mine = is_selected ? score(t, e) : 0.0F;
      if (is_selected)
        atomicOr(&masks_[e * mask_words_ + t / kWarpThreads], 1u << t % kWarpThreads);
      for (uint32_t left = __ballot_sync(kWholeWarp, is_selected); left != 0; left &= left - 1) {
        sum += __shfl_sync(kWholeWarp, mine, __ffs(static_cast<int>(left)) - 1);
      }
    }
    if (lane() == 0) divisors_[t] = op_.norm_topk != 0 ? sum + 1e-20F : 1.0F;
  }

  // first_pairs[e] = the number of columns that chose e.
  __device__ void count_pairs() const {
    for (uint32_t e = threadIdx.x; e < op_.num_experts; e += kTaskThreads) {
      uint32_t count = 0;
      for (uint32_t word = 0; word < mask_words_; ++word) {
        count += static_cast<uint32_t>(__popc(masks_[e * mask_words_ + word]));
      }
      first_pairs_[e] = count;
    }
  }

  // Slots of the experts that have pairs; first_pairs[e] becomes the index of e's first.
  __device__ void make_slots() const {
    uint32_t slots = 0;
    uint32_t pairs = 0;
    for (uint32_t begin = 0; begin < op_.num_experts; begin += kWarpThreads) {
      const uint32_t e = begin + lane();
      const uint32_t count = e < op_.num_experts ? first_pairs_[e] : 0;
      uint32_t sum = count;
#pragma unroll
      for (uint32_t width = 1; width < kWarpThreads; width *= 2) {
        const uint32_t before = __shfl_up_sync(kWholeWarp, sum, width);
        if (lane() >= width) sum += before;
      }
      const uint32_t live = __ballot_sync(kWholeWarp, count > 0);
      if (count > 0) {
        const uint32_t slot = slots + static_cast<uint32_t>(__popc(live & lanes_before()));
        table_.expert[slot] = e;
        table_.pair_begin[slot] = pairs + sum - count;
        first_pairs_[e] = pairs + sum - count;
      }
      slots += static_cast<uint32_t>(__popc(live));
      pairs += __shfl_sync(kWholeWarp, sum, kWarpThreads - 1);
    }
    if (lane() != 0) return;
    table_.pair_begin[slots] = pairs;
    *table_.num_slots = slots;
  }

  __device__ void store_pairs(uint32_t e) const {
    uint32_t next = first_pairs_[e];
    for (uint32_t word = 0; word < mask_words_; ++word) {
      const uint32_t mask = masks_[e * mask_words_ + word];
      if ((mask >> lane() & 1) != 0) {
        const uint32_t t = word * kWarpThreads + lane();
        const uint32_t pair = next + static_cast<uint32_t>(__popc(mask & lanes_before()));
        table_.pair_column[pair] = t;
        table_.pair_weight[pair] = score(t, e) / divisors_[t] * op_.scaling;
      }
      next += static_cast<uint32_t>(__popc(mask));
    }
  }

  __device__ static uint32_t lanes_before() {
    return (1u << lane()) - 1;
  }

  const OpContext& context_;
  const program::RouteOperands& op_;
  const uint32_t mask_words_;  // of an expert
  const float* logits_;
  const float* bias_;
  const program::RouteTable table_;
  uint64_t* keys_;         // shared, [kTaskWarps, num_experts]: order of choice; a warp's column
  uint32_t* masks_;        // shared, [num_experts, mask_words]: a bit for each column
  uint32_t* first_pairs_;  // shared, [num_experts]
  float* divisors_;        // shared, [num_columns]
};

inline __device__ void run_op(const OpContext& context, const program::RouteOperands& op) {
  RouteBlock(context, op).run();
  __syncthreads();
}

}  // namespace ultraspeed::cuda
