// Follow: the token that an MTP head embeds for each column, to every rank; a warp a sequence.
#pragma once

#include "cuda/ops/accepted.cuh"

namespace ultraspeed::cuda {

// The token `distance` >= 1 positions after an accepted column.
inline __device__ int32_t token_after(const OpContext& context, const program::FollowOperands& op,
                                      const AcceptedColumn& from, uint32_t distance) {
  if (!from.wants_logits) {
    const uint32_t first = context.column(from.index).first_next_token;
    return context.step().next_tokens[first + distance - 1];
  }
  const program::BufferId chosen = distance == 1 ? op.sampled : op.proposed[distance - 2];
  return static_cast<int32_t>(context.words(chosen)[from.index]);
}

inline __device__ void follow_sequence(const OpContext& context, const program::FollowOperands& op,
                                       const StepColumn& of) {
  const AcceptedColumn accepted = accepted_column(context, of, op.accepted);
  const uint32_t lane = threadIdx.x % kWarpThreads;
  for (uint32_t t = of.first_column + lane; t < of.end_column; t += kWarpThreads) {
    const uint32_t at = t + op.distance;
    const int32_t token = at <= accepted.index ? context.column(at).token_id
                                               : token_after(context, op, accepted,
                                                             min(at - accepted.index, op.distance));
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      context.words_of(rank, op.tokens)[t] = static_cast<uint32_t>(token);
    }
  }
}

inline __device__ void run_op(const OpContext& context, const program::FollowOperands& op) {
  const uint32_t warp = threadIdx.x / kWarpThreads;
  for (uint32_t t = warp; t < context.num_columns(); t += kTaskWarps) {
    const StepColumn& column = context.column(t);
    if (column.first_column == t) follow_sequence(context, op, column);
  }
}

}  // namespace ultraspeed::cuda
