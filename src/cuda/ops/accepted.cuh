// Where a sequence's text goes on in a step: program/operands.h, FollowOperands. All threads of a
// warp call these together, if nothing else is said.
#pragma once

#include <cstdint>

#include "cuda/ops/column_filter.h"
#include "cuda/ops/dot.cuh"

namespace ultraspeed::cuda {

// The first column from `begin` on that is_found, or `end`.
template <class Predicate>
__device__ uint32_t first_column_of(uint32_t begin, uint32_t end, const Predicate& is_found) {
  for (; begin < end; begin += kWarpThreads) {
    const uint32_t t = begin + threadIdx.x % kWarpThreads;
    const uint32_t found = __ballot_sync(kWholeWarp, t < end && is_found(t));
    if (found != 0) return begin + static_cast<uint32_t>(__ffs(static_cast<int>(found))) - 1;
  }
  return end;
}

// The sequence's first logits column, or its end.
inline __device__ uint32_t first_logits_column(const OpContext& context, const StepColumn& of) {
  return first_column_of(of.first_column, of.end_column,
                         [&](uint32_t t) { return context.column(t).wants_logits != 0; });
}

struct AcceptedColumn {
  uint32_t index = 0;
  uint32_t first_logits = 0;  // the sequence's first logits column, if wants_logits
  bool wants_logits = false;
};

// The accepted column of a column's sequence; `accepted` is what Accept made.
inline __device__ AcceptedColumn accepted_column(const OpContext& context, const StepColumn& of,
                                                 program::BufferId accepted) {
  const uint32_t first = first_logits_column(context, of);
  if (first == of.end_column) return {of.end_column - 1, 0, false};
  return {first + context.words(accepted)[first], first, true};
}

// Whether column t is an accepted one that wants logits; each thread asks for itself.
inline __device__ bool is_accepted(const StepView& step, const uint32_t* accepted, uint32_t t) {
  const StepColumn& of = step.columns[t];
  uint32_t first = of.first_column;
  while (first < of.end_column && step.columns[first].wants_logits == 0) ++first;
  return first < of.end_column && first + accepted[first] == t;
}

// Each thread asks for itself.
inline __device__ bool is_wanted(const ColumnFilter& filter, uint32_t t) {
  if (filter.step == nullptr) return true;
  const StepColumn& column = filter.step->columns[t];
  return (!filter.logits_only || column.wants_logits != 0) &&
         (!filter.drafted_only || column.is_drafted != 0) &&
         (filter.accepted == nullptr || is_accepted(*filter.step, filter.accepted, t));
}

}  // namespace ultraspeed::cuda
