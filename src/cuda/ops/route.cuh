// Route: each column's top_k experts, and from them the table of live experts. A cluster of CTAs a
// rank, or one CTA, an equal share of the columns each; a warp a column. The CTAs tell each other
// which of their columns chose an expert; each then knows where its columns stand in the table.
#pragma once

#include "cuda/ops/context.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/math.cuh"
#include "cuda/ops/token_order.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "program/route_table.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMaxRouteExperts = 2048;
inline constexpr uint32_t kMaxTopK = kWarpThreads;
static_assert(kMaxColumns * kMaxTopK < 1u << 20);  // ExpertCount

// Columns of a CTA in clusters of at most kCtas; a bit of a mask each, in words of 64.
template <uint32_t kCtas>
inline constexpr uint32_t kRouteColumns = kMaxColumns / kCtas;

// What a warp keeps of its column while it chooses: a number for each lane, and the candidates.
struct alignas(16) ColumnShared {
  uint64_t keys[kWarpThreads];
  uint32_t orders[kWarpThreads];
  uint32_t experts[kWarpThreads];
};

// Numbers of a ColumnShared's lists that satisfy.
template <class T, class Predicate>
__device__ uint32_t count_of(const T (&list)[kWarpThreads], const Predicate& satisfies) {
  uint32_t count = 0;
#pragma unroll
  for (uint32_t n = 0; n < kWarpThreads; ++n) count += satisfies(list[n]) ? 1 : 0;
  return count;
}

// An expert that a column chose, and its weight.
struct Choice {
  uint32_t expert;
  float weight;
};

// Slots and pairs of some experts: they are added as one number.
struct ExpertCount {
  __device__ static uint32_t of(uint32_t pairs) { return (pairs > 0 ? 1u << 20 : 0) | pairs; }
  __device__ static uint32_t slots(uint32_t count) { return count >> 20; }
  __device__ static uint32_t pairs(uint32_t count) { return count & ((1u << 20) - 1); }
};
static_assert(kMaxRouteExperts < 1u << 12);

// Dynamic shared memory: masks, first pairs, choices.
template <uint32_t kCtas>
constexpr uint32_t route_shared_bytes(const program::RouteOperands& op) {
  constexpr uint32_t kColumns = kRouteColumns<kCtas>;
  return op.num_experts * (kColumns / 8 + static_cast<uint32_t>(sizeof(uint32_t))) +
         kColumns * op.top_k * static_cast<uint32_t>(sizeof(Choice));
}

// kOfLane: experts that a lane has of a column, at least. kCtas: of the cluster, at most; a CTA
// that is alone has as few columns as one of so many.
template <uint32_t kOfLane, uint32_t kCtas, uint32_t kWarpsOf, bool kIsAlone = kCtas == 1>
class RouteCta {
 public:
  static constexpr uint32_t kWarps = kWarpsOf, kThreads = kWarps * kWarpThreads;
  static constexpr uint32_t kMaskWords = kRouteColumns<kCtas> / 64;

  __device__ RouteCta(const OpContext& context, const program::RouteOperands& op, uint32_t ctas)
      : op_(op),
        ctas_(ctas),
        rank_(kIsAlone ? 0 : ptx::cluster_cta_rank()),
        logits_(context.buffer(op.logits)),
        bias_(context.vector(op.bias)),
        table_(program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs)),
        masks_(reinterpret_cast<uint64_t*>(context.shared_memory)),
        first_pairs_(reinterpret_cast<uint32_t*>(masks_ + kMaskWords * op.num_experts)),
        choices_(reinterpret_cast<Choice*>(first_pairs_ + op.num_experts)) {}

  // Needs nothing that the grids ahead write.
  __device__ void prepare() {
    for (uint32_t i = threadIdx.x; i < kMaskWords * op_.num_experts; i += kThreads) masks_[i] = 0;
#pragma unroll
    for (uint32_t i = 0; i < kOfLane; ++i) {
      const uint32_t e = expert_of(i);
      biases_[i] = bias_ != nullptr && e < op_.num_experts ? bias_[e] : 0.0F;
    }
    task_barrier<kThreads>();
  }

  // totals, of_warps: shared, [kWarps]. REQUIRES: num_columns <= kRouteColumns<kCtas> * ctas.
  __device__ void run(uint32_t num_columns, uint32_t* totals, ColumnShared* of_warps) {
    const uint32_t share = (num_columns + ctas_ - 1) / ctas_;
    first_ = min(num_columns, rank_ * share);
    count_ = min(num_columns - first_, share);
    for (uint32_t column = warp(); column < count_; column += kWarps) {
      route_column(column, &of_warps[warp()]);
      __syncwarp();  // the column has been read
    }
    if constexpr (!kIsAlone) {
      ptx::cluster_arrive();  // all masks are made. Partner: the wait below, of each CTA
      ptx::cluster_wait();
    } else {
      task_barrier<kThreads>();
    }
    place_experts(totals);
    // The other CTAs' masks have been read. Partner: the last wait.
    if constexpr (!kIsAlone) ptx::cluster_arrive();
    task_barrier<kThreads>();  // the places of pairs are known
    store_pairs();
    if constexpr (!kIsAlone) ptx::cluster_wait();  // this CTA's masks have been read
  }

 private:
  static constexpr uint32_t kNone = 0;  // no number's order

  __device__ static uint32_t warp() {
    return threadIdx.x / kWarpThreads;
  }
  __device__ static uint32_t lane() {
    return threadIdx.x % kWarpThreads;
  }
  __device__ static uint32_t lanes_before() {
    return (1u << lane()) - 1;
  }
  __device__ static uint32_t expert_of(uint32_t i) {
    return i * kWarpThreads + lane();
  }

  // Stores the column's choices by ascending expert and sets its bit in their masks.
  __device__ void route_column(uint32_t column, ColumnShared* shared) const {
    const float* logits = logits_ + uint64_t{first_ + column} * op_.num_experts;
    const auto [expert, score] = choose(logits, shared);
    const bool is_chosen = expert != kNoId;
    shared->experts[lane()] = expert;
    __syncwarp();
    const uint32_t place =
        count_of(shared->experts, [e = expert](uint32_t other) { return other < e; });
    Choice* choices = choices_ + column * op_.top_k;
    if (is_chosen) {
      choices[place] = {expert, score};
      auto* mask = reinterpret_cast<unsigned long long*>(masks_ + expert * kMaskWords);
      atomicOr(mask + column / 64, 1ull << column % 64);
    }
    __syncwarp();
    float sum = 0;
#pragma unroll 8
    for (uint32_t n = 0; n < op_.top_k; ++n) sum += choices[n].weight;
    const float divisor = op_.norm_topk != 0 ? sum + 1e-20F : 1.0F;
    __syncwarp();
    if (is_chosen) choices[place].weight = choices[place].weight / divisor * op_.scaling;
  }

  // The column's experts and their scores, on some lanes; kNoId on the others. Few are near enough
  // to the top to be scored exactly: of the lanes' best ones, by a fast sigmoid, top_k are at least
  // `bound`; what is below it by more than both errors is none of the top_k.
  __device__ Choice choose(const float* logits, ColumnShared* shared) const {
    if (op_.scores == program::RouterScores::kSoftmax) return choose_by_softmax(logits);
    uint32_t orders[kOfLane];
    uint32_t best = 0;
    {
      float loaded[kOfLane];
#pragma unroll
      for (uint32_t i = 0; i < kOfLane; ++i) {
        loaded[i] = is_expert(i) ? logits[expert_of(i)] : 0.0F;
      }
#pragma unroll
      for (uint32_t i = 0; i < kOfLane; ++i) {
        const float score = __fdividef(1.0F, 1.0F + __expf(-loaded[i]));
        orders[i] = is_expert(i) ? order_of(score + biases_[i]) : kNone;
        best = max(best, orders[i]);
      }
    }
    const uint32_t least = least_order(best, shared);
    uint32_t count = 0;
#pragma unroll
    for (uint32_t i = 0; i < kOfLane; ++i) {
      const bool is_near = orders[i] >= least;
      const uint32_t near = __ballot_sync(kWholeWarp, is_near);
      const uint32_t at = count + static_cast<uint32_t>(__popc(near & lanes_before()));
      if (is_near && at < kWarpThreads) shared->experts[at] = expert_of(i);
      count += static_cast<uint32_t>(__popc(near));
    }
    __syncwarp();
    if (count > kWarpThreads) return choose_of_all(logits);
    const bool is_candidate = lane() < count;
    const uint32_t expert = is_candidate ? shared->experts[lane()] : 0;
    const float score = sigmoid(logits[expert]);
    const float bias = bias_ == nullptr ? 0.0F : bias_[expert];
    const uint64_t key = is_candidate ? key_of(score + bias, expert) : 0;
    shared->keys[lane()] = key;
    __syncwarp();
    const uint32_t rank = count_of(shared->keys, [&](uint64_t other) { return other > key; });
    return {rank < op_.top_k ? expert : kNoId, score};
  }

  // The order from which on experts are candidates. best: the lane's largest.
  __device__ uint32_t least_order(uint32_t best, ColumnShared* shared) const {
    shared->orders[lane()] = best;
    __syncwarp();
    const uint32_t above = count_of(shared->orders, [&](uint32_t order) { return order > best; });
    const uint32_t bound = __reduce_min_sync(kWholeWarp, above < op_.top_k ? best : ~0u);
    if (bound == kNone) return kNone + 1;  // of every expert
    // Twice the error: of a score 2^-17 at most, and of its sum with the bias.
    const float value = value_of(uint64_t{bound} << 32);
    if (!isfinite(value)) return bound;
    return order_of(value - 0x1p-16F - fabsf(value) * 0x1p-20F);
  }

  // The same as choose(), each expert scored exactly.
  __device__ Choice choose_of_all(const float* logits) const {
    uint32_t orders[kOfLane];
#pragma unroll
    for (uint32_t i = 0; i < kOfLane; ++i) {
      const float value = is_expert(i) ? sigmoid(logits[expert_of(i)]) + biases_[i] : 0.0F;
      orders[i] = is_expert(i) ? order_of(value) : kNone;
    }
    const uint32_t chosen = take_top(orders).expert;
    return {chosen, chosen == kNoId ? 0 : sigmoid(logits[chosen])};
  }

  // The scores' sum is one of binary64, rounded, which its order hardly ever changes.
  __device__ Choice choose_by_softmax(const float* logits) const {
    float scores[kOfLane];
    uint32_t largest = kNone;
#pragma unroll
    for (uint32_t i = 0; i < kOfLane; ++i) {
      scores[i] = is_expert(i) ? logits[expert_of(i)] + biases_[i] : 0.0F;
      largest = max(largest, is_expert(i) ? order_of(scores[i]) : kNone);
    }
    largest = __reduce_max_sync(kWholeWarp, largest);
    const float most = value_of(uint64_t{largest} << 32);
    double sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < kOfLane; ++i) {
      scores[i] = is_expert(i) ? exp_f32(scores[i] - most) : 0.0F;
      sum += static_cast<double>(scores[i]);
    }
#pragma unroll
    for (uint32_t width = kWarpThreads / 2; width > 0; width /= 2) {
      sum += __shfl_xor_sync(kWholeWarp, sum, width);
    }
    const float divisor = static_cast<float>(sum);
    uint32_t orders[kOfLane];
#pragma unroll
    for (uint32_t i = 0; i < kOfLane; ++i) {
      orders[i] = is_expert(i) ? order_of(scores[i] / divisor) : kNone;
    }
    const Top top = take_top(orders);
    return {top.expert, value_of(uint64_t{top.order} << 32)};
  }

  struct Top {
    uint32_t expert, order;
  };
  // For lane n the n-th of the column's experts by their orders, of the first top_k; kNoId for
  // others. orders: the lane's, left without those taken.
  __device__ Top take_top(uint32_t (&orders)[kOfLane]) const {
    Top top = {kNoId, kNone};
    for (uint32_t n = 0; n < op_.top_k; ++n) {
      uint32_t best = kNone, expert = kNoId;
#pragma unroll
      for (uint32_t i = 0; i < kOfLane; ++i) {
        expert = orders[i] > best ? expert_of(i) : expert;
        best = max(best, orders[i]);
      }
      const uint32_t most = __reduce_max_sync(kWholeWarp, best);
      expert = __reduce_min_sync(kWholeWarp, best == most ? expert : kNoId);
      if (lane() == n) top = {expert, most};
#pragma unroll
      for (uint32_t i = 0; i < kOfLane; ++i) {
        orders[i] = expert_of(i) == expert ? kNone : orders[i];
      }
    }
    return top;
  }

  __device__ bool is_expert(uint32_t i) const {
    return expert_of(i) < op_.num_experts;
  }

  // How many columns of a CTA of the cluster chose the expert.
  __device__ uint32_t columns_of(uint32_t cta, uint32_t expert) const {
    uint32_t count = 0;
#pragma unroll
    for (uint32_t i = 0; i < kMaskWords; ++i) {
      const uint32_t word = ptx::smem_address(masks_ + expert * kMaskWords + i);
      const uint64_t mask = ptx::load_shared_cluster(ptx::map_shared_rank(word, cta));
      count += static_cast<uint32_t>(__popcll(mask));
    }
    return count;
  }

  // first_pairs[e] = the index of the first pair that this CTA's columns have with expert e; the
  // first CTA stores the slots. Ends without a barrier.
  __device__ void place_experts(uint32_t* totals) const {
    uint32_t before = 0;  // all experts before this turn's
    for (uint32_t begin = 0; begin < op_.num_experts; begin += kThreads) {
      const uint32_t e = begin + threadIdx.x;
      uint32_t pairs = 0, of_ctas_before = 0;
      if (e < op_.num_experts) {
#pragma unroll
        for (uint32_t cta = 0; cta < kCtas; ++cta) {
          if (cta >= ctas_) break;
          const uint32_t count = columns_of(cta, e);
          of_ctas_before += cta < rank_ ? count : 0;
          pairs += count;
        }
      }
      const uint32_t count = ExpertCount::of(pairs);
      uint32_t sum = count;
#pragma unroll
      for (uint32_t width = 1; width < kWarpThreads; width *= 2) {
        const uint32_t others = __shfl_up_sync(kWholeWarp, sum, width);
        if (lane() >= width) sum += others;
      }
      task_barrier<kThreads>();  // the totals of the turn before have been read
      if (lane() == kWarpThreads - 1) totals[warp()] = sum;
      task_barrier<kThreads>();
      const uint32_t total = lane() < kWarps ? totals[lane()] : 0;
      const uint32_t at =
          before + sum - count + __reduce_add_sync(kWholeWarp, lane() < warp() ? total : 0);
      before += __reduce_add_sync(kWholeWarp, total);
      if (pairs == 0) continue;
      first_pairs_[e] = ExpertCount::pairs(at) + of_ctas_before;
      if (rank_ != 0) continue;
      table_.expert[ExpertCount::slots(at)] = e;
      table_.pair_begin[ExpertCount::slots(at)] = ExpertCount::pairs(at);
    }
    if (rank_ != 0 || threadIdx.x != 0) return;
    table_.pair_begin[ExpertCount::slots(before)] = ExpertCount::pairs(before);
    *table_.num_slots = ExpertCount::slots(before);
  }

  __device__ void store_pairs() const {
    for (uint32_t i = threadIdx.x; i < count_ * op_.top_k; i += kThreads) {
      const Choice choice = choices_[i];
      const uint32_t column = i / op_.top_k;
      const uint64_t* mask = masks_ + choice.expert * kMaskWords;
      uint32_t pair = first_pairs_[choice.expert];
      for (uint32_t word = 0; word < column / 64; ++word) {
        pair += static_cast<uint32_t>(__popcll(mask[word]));
      }
      const uint64_t before = mask[column / 64] & ((uint64_t{1} << column % 64) - 1);
      pair += static_cast<uint32_t>(__popcll(before));
      table_.pair_column[pair] = first_ + column;
      table_.pair_weight[pair] = choice.weight;
    }
  }

  const program::RouteOperands& op_;
  const uint32_t ctas_, rank_;  // of the cluster; in it
  const float* logits_;
  const float* bias_;
  const program::RouteTable table_;
  uint64_t* masks_;        // shared, [num_experts, kMaskWords]: a bit for each column of this CTA
  uint32_t* first_pairs_;  // shared, [num_experts]
  Choice* choices_;        // shared, [kRouteColumns<kCtas>, top_k]
  float biases_[kOfLane];
  uint32_t first_ = 0, count_ = 0;  // columns of this CTA
};

}  // namespace ultraspeed::cuda
