// The choice among a drafted column's nominees by the token before it. What follows what is known
// only when all before is chosen; so first every pair of a nominee and a nominee of the column
// before is scored, of eight columns at a time, and then the choices are looked up one by one.
#pragma once

#include "base/philox.h"
#include "cuda/ops/candidates.cuh"
#include "cuda/ops/context.cuh"
#include "cuda/ops/softmax_state.cuh"
#include "cuda/ops/token_order.cuh"

namespace ultraspeed::cuda {

using program::kMaxNominees;
using program::kMaxSelectorRank;
static_assert(2 * kMaxNominees == kWarpThreads && kMaxSelectorRank % 4 == 0);

// Of a warp's column.
struct PairScores {
  float of[kMaxNominees][kMaxNominees];  // [token before][nominee]
  uint32_t ids[kMaxNominees];
};
struct SelectShared {
  float joined[kTaskWarps][kMaxNominees][kMaxSelectorRank];  // 16-byte aligned rows
  PairScores scores[kTaskWarps];
};

// The warp's joined[i] = predecessors[token i before] * row; `before` is of lane i.
inline __device__ void join_all(const OpContext& context, const program::SelectorRef& selector,
                                uint32_t t, uint32_t before, float (*joined)[kMaxSelectorRank]) {
  constexpr uint32_t kAhead = 8;
  const float* predecessors = context.vector(selector.predecessors);
  const float* row = context.buffer(selector.rows) + uint64_t{t} * selector.rank;
  const uint32_t lane = threadIdx.x % kWarpThreads;
  for (uint32_t first = 0; first < kMaxNominees; first += kAhead) {
    uint32_t tokens[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      tokens[i] = __shfl_sync(kWholeWarp, before, static_cast<int>(first + i));
    }
    for (uint32_t r = lane; r < selector.rank; r += kWarpThreads) {
      float u[kAhead];
#pragma unroll
      for (uint32_t i = 0; i < kAhead; ++i) {
        const uint64_t at = uint64_t{tokens[i]} * selector.rank + r;
        u[i] = tokens[i] == kNoId ? 0.0F : predecessors[at];
      }
#pragma unroll
      for (uint32_t i = 0; i < kAhead; ++i) joined[first + i][r] = u[i] * row[r];
    }
  }
  __syncwarp();
}

// What a nominee's score becomes where the column before has a temperature.
struct ChoiceNoise {
  float temperature = 0, noise = 0;

  __device__ ChoiceNoise(const StepColumn& column, uint32_t id) : temperature(column.temperature) {
    if (temperature <= 0 || id == kNoId) return;
    noise = static_cast<float>(gumbel_noise(random_bits(column.seed, column.position, id)));
  }
  __device__ float operator()(float score) const {
    return temperature > 0 ? score / temperature + noise : score;
  }
};

// Lane l: nominee l % 16 after tokens 8 (l / 16), ... before.
inline __device__ void score_pairs(const OpContext& context, const program::SelectorRef& selector,
                                   uint32_t t, float (*joined)[kMaxSelectorRank],
                                   PairScores* scores) {
  constexpr uint32_t kOfLane = kMaxNominees / 2;
  const uint32_t lane = threadIdx.x % kWarpThreads, place = lane % kMaxNominees;
  const uint32_t count = selector.num_nominees;
  const uint32_t* nominees = context.words(selector.nominees) + uint64_t{2} * t * count;
  const StepColumn& column_before = context.column(t - 1);
  uint32_t before = kNoId;
  if (column_before.is_drafted == 0) {
    if (lane == 0) before = static_cast<uint32_t>(column_before.token_id);
  } else if (lane < count) {
    before = *(nominees - 2 * count + lane);
  }
  const uint32_t id = place < count ? nominees[place] : kNoId;
  const float logit = id == kNoId ? 0.0F : __uint_as_float(nominees[count + place]);
  const ChoiceNoise noisy(column_before, id);
  join_all(context, selector, t, before, joined);
  const float(*of_lane)[kMaxSelectorRank] = joined + lane / kMaxNominees * kOfLane;
  float sums[kOfLane] = {};
  if (id != kNoId) {
    const float* successor = context.vector(selector.successors) + uint64_t{id} * selector.rank;
    const uint32_t num_quads = selector.rank % 4 == 0 ? selector.rank / 4 : 0;  // aligned
#pragma unroll 4
    for (uint32_t quad = 0; quad < num_quads; ++quad) {
      const float4 s = reinterpret_cast<const float4*>(successor)[quad];
#pragma unroll
      for (uint32_t i = 0; i < kOfLane; ++i) {
        const float4 f = reinterpret_cast<const float4*>(of_lane[i])[quad];
        sums[i] = fmaf(s.x, f.x, sums[i]);
        sums[i] = fmaf(s.y, f.y, sums[i]);
        sums[i] = fmaf(s.z, f.z, sums[i]);
        sums[i] = fmaf(s.w, f.w, sums[i]);
      }
    }
    for (uint32_t r = 4 * num_quads; r < selector.rank; ++r) {
#pragma unroll
      for (uint32_t i = 0; i < kOfLane; ++i) sums[i] = fmaf(successor[r], of_lane[i][r], sums[i]);
    }
  }
#pragma unroll
  for (uint32_t i = 0; i < kOfLane; ++i) {
    const float score = id == kNoId ? minus_infinity() : noisy(logit + sums[i]);
    scores->of[lane / kMaxNominees * kOfLane + i][place] = score;
  }
  if (lane < kMaxNominees) scores->ids[lane] = id;
}

// The nominee with the largest score after token `before`, the first of equals. A warp's.
inline __device__ uint32_t best_nominee(const PairScores& scores, uint32_t before) {
  const uint32_t lane = threadIdx.x % kWarpThreads;
  uint32_t order = 0;  // below those of numbers
  if (lane < kMaxNominees && scores.ids[lane] != kNoId) order = order_of(scores.of[before][lane]);
  const uint32_t most = __reduce_max_sync(kWholeWarp, order);
  return static_cast<uint32_t>(__ffs(static_cast<int>(__ballot_sync(kWholeWarp, order == most)))) -
         1;
}

// drafted of the task's columns, by one CTA.
inline __device__ void select_tokens(const OpContext& context, const program::ProposeOperands& op) {
  auto* shared = reinterpret_cast<SelectShared*>(context.shared_memory);
  const uint32_t warp = threadIdx.x / kWarpThreads;
  const uint32_t end = min(context.row_end(), context.num_columns());
  uint32_t chosen = 0;  // of the column before
  for (uint32_t first = context.task.row_begin; first < end; first += kTaskWarps) {
    const uint32_t mine = first + warp;
    if (mine < end && context.column(mine).is_drafted != 0) {
      score_pairs(context, op.selector, mine, shared->joined[warp], &shared->scores[warp]);
    }
    task_barrier();
    for (uint32_t i = 0; warp == 0 && i < min(kTaskWarps, end - first); ++i) {
      const uint32_t t = first + i;
      if (context.column(t).is_drafted == 0) continue;
      if (context.column(t - 1).is_drafted == 0) chosen = 0;  // the anchor
      chosen = best_nominee(shared->scores[i], chosen);
      if (threadIdx.x != 0) continue;
      for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
        context.words_of(rank, op.drafted)[t] = shared->scores[i].ids[chosen];
      }
    }
    task_barrier();
  }
}

}  // namespace ultraspeed::cuda
