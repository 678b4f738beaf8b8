// Accept: how many of each sequence's draft tokens are what the target chose; a warp a sequence.
#pragma once

#include "cuda/ops/accepted.cuh"

namespace ultraspeed::cuda {

inline __device__ uint32_t token_of(const OpContext& context, const program::AcceptOperands& op,
                                    uint32_t t) {
  const StepColumn& column = context.column(t);
  return column.is_drafted != 0 ? context.words(op.drafted)[t]
                                : static_cast<uint32_t>(column.token_id);
}

inline __device__ void accept_sequence(const OpContext& context, const program::AcceptOperands& op,
                                       const StepColumn& of) {
  const uint32_t first = first_logits_column(context, of);
  if (first == of.end_column) return;
  const uint32_t* sampled = context.words(op.sampled);
  const uint32_t differs = first_column_of(first + 1, of.end_column, [&](uint32_t t) {
    return sampled[t - 1] != token_of(context, op, t);
  });
  if (threadIdx.x % kWarpThreads != 0) return;
  const uint32_t count = differs - first - 1;
  for (uint32_t rank = 0; rank < (op.broadcast != 0 ? context.num_ranks() : 1); ++rank) {
    context.words_of(rank, op.accepted)[first] = count;
  }
  context.step().results[first].accepted = count;
}

inline __device__ void run_op(const OpContext& context, const program::AcceptOperands& op) {
  const uint32_t warp = threadIdx.x / kWarpThreads;
  for (uint32_t t = warp; t < context.num_columns(); t += kTaskWarps) {
    const StepColumn& column = context.column(t);
    if (column.first_column == t) accept_sequence(context, op, column);
  }
  for (uint32_t t = threadIdx.x; t < context.num_columns(); t += kTaskThreads) {
    if (context.column(t).is_drafted == 0) continue;
    context.step().results[t].drafted_id = static_cast<int32_t>(token_of(context, op, t));
  }
}

}  // namespace ultraspeed::cuda
