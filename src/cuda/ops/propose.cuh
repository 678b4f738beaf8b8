// Propose: the drafter's choice for each drafted column, or a head's for each accepted one, to
// every rank.
#pragma once

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/token_values.cuh"

namespace ultraspeed::cuda {

template <>
inline constexpr uint32_t kSharedBytes<program::ProposeOperands> = kTaskWarps * sizeof(uint64_t);

inline __device__ void run_op(const OpContext& context, const program::ProposeOperands& op) {
  auto* shared = reinterpret_cast<uint64_t*>(context.shared_memory);
  const bool is_for_host = op.accepted != program::kNoId;
  const uint32_t end = min(context.row_end(), context.num_columns());
  for (uint32_t t = context.task.row_begin; t < end; ++t) {
    const StepColumn& column = context.column(t);
    AcceptedColumn accepted;
    if (is_for_host) accepted = accepted_column(context, column, op.accepted);
    const bool is_accepted = accepted.wants_logits && accepted.index == t;
    if (is_for_host ? !is_accepted : column.is_drafted == 0) continue;
    const float* logits = context.buffer(op.logits) + uint64_t{t} * op.vocab_size;
    const uint32_t id = id_of(largest_key({logits, op.vocab_size}, shared));
    if (threadIdx.x != 0) continue;
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      context.words_of(rank, op.drafted)[t] = id;
    }
    if (!is_for_host) continue;
    ColumnResult& result = context.step().results[accepted.first_logits];
    result.proposed_ids[result.num_proposed++] = static_cast<int32_t>(id);
  }
}

}  // namespace ultraspeed::cuda
