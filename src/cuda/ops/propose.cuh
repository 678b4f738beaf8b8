// Propose: the drafter's choice for each drafted column, or a head's for each accepted one, to
// every rank.
#pragma once

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/drawn_draft.cuh"
#include "cuda/ops/select.cuh"

namespace ultraspeed::cuda {

template <>
inline constexpr uint32_t kSharedBytes<program::ProposeOperands> = sizeof(SelectShared) >
                                                                           sizeof(CandidatesShared)
                                                                       ? sizeof(SelectShared)
                                                                       : sizeof(CandidatesShared);
template <>
inline constexpr uint32_t kTaskBlocks<program::ProposeOperands> = kTeamCtas;
template <>
inline constexpr bool kIsCluster<program::ProposeOperands> = true;

// Of a drafted column.
inline __device__ uint32_t drafted_token(const OpContext& context, uint32_t t,
                                         const TokenValues& values, CandidatesShared* shared) {
  const StepColumn& before = context.column(t - 1);
  if (draws(before)) return draw_draft(values, before, before.position, shared);
  return id_of(largest_key(values, &shared->sort.team));
}

// Of a head after an accepted column; `first` is the sequence's first logits column. The host gets
// what it is drawn from.
inline __device__ uint32_t proposed_token(const OpContext& context,
                                          const program::ProposeOperands& op,
                                          const StepColumn& column, const StepColumn& first,
                                          const TokenValues& values, CandidatesShared* shared) {
  if (!draws(column)) return id_of(largest_key(values, &shared->sort.team));
  float* drawn = context.step().drawn_logits + first.first_drawn_logit;
  const TeamShare share(op.vocab_size);
  for (uint32_t id = share.begin + threadIdx.x; id < share.end; id += kTaskThreads) {
    drawn[uint64_t{op.head} * op.vocab_size + id] = values.logits[id];
  }
  return draw_draft(values, column, program::draft_stream(column.position, op.head), shared);
}

inline __device__ void run_op(const OpContext& context, const program::ProposeOperands& op) {
  if (op.selects()) {
    if (ptx::cluster_cta_rank() == 0) select_tokens(context, op);
    return;
  }
  auto* shared = reinterpret_cast<CandidatesShared*>(context.shared_memory);
  begin_team(&shared->sort.team);
  const bool is_for_host = op.accepted != program::kNoId;
  const uint32_t end = min(context.row_end(), context.num_columns());
  for (uint32_t t = context.task.row_begin; t < end; ++t) {
    const StepColumn& column = context.column(t);
    AcceptedColumn accepted;
    if (is_for_host) accepted = accepted_column(context, column, op.accepted);
    const bool is_accepted = accepted.wants_logits && accepted.index == t;
    if (is_for_host ? !is_accepted : column.is_drafted == 0) continue;
    const TokenValues values{context.buffer(op.logits) + uint64_t{t} * op.vocab_size,
                             op.vocab_size};
    const uint32_t id = is_for_host
                            ? proposed_token(context, op, column,
                                             context.column(accepted.first_logits), values, shared)
                            : drafted_token(context, t, values, shared);
    if (!is_first_of_team()) continue;
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      context.words_of(rank, op.drafted)[t] = id;
    }
    if (!is_for_host) continue;
    ColumnResult& result = context.step().results[accepted.first_logits];
    result.proposed_ids[result.num_proposed++] = static_cast<int32_t>(id);
  }
  end_team();
}

}  // namespace ultraspeed::cuda
