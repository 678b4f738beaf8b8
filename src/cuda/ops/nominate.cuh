// Nominate: the tokens among which a selector chooses a drafted column's. A CTA has a column.
#pragma once

#include "cuda/ops/drawn_draft.cuh"

namespace ultraspeed::cuda {

struct NominateShared {
  CandidatesShared drawn;          // its team is this CTA; its batches hold what is collected
  uint64_t largest[kTaskThreads];  // of each thread's tokens
  uint64_t best[program::kMaxNominees];
  uint64_t least;
  uint32_t num_collected;
};

template <>
inline constexpr uint32_t kSharedBytes<program::NominateOperands> = sizeof(NominateShared);

// The keys of the `want` first tokens in order, to shared->best; returns how many there are.
// REQUIRES: want <= kMaxNominees.
inline __device__ uint32_t first_tokens(const TokenValues& values, uint32_t want,
                                        NominateShared* shared) {
  LargestToken largest;
  for_each_token(values, [&](uint32_t id, float value) { largest.add(id, value); });
  const uint64_t mine = largest.key();
  shared->largest[threadIdx.x] = mine;
  if (threadIdx.x == 0) {
    shared->least = 0;
    shared->num_collected = 0;
  }
  task_barrier();
  // As many threads as tokens are wanted have a token that is not below the last of these threads'
  // largest ones: nor is any of the first tokens, and no other thread has one of them.
  uint32_t num_above = 0;
#pragma unroll 8
  for (uint32_t i = 0; i < kTaskThreads; ++i) num_above += shared->largest[i] > mine ? 1 : 0;
  if (mine != 0 && num_above == want - 1) shared->least = mine;
  task_barrier();
  const uint64_t least = shared->least;
  SortShared& sort = shared->drawn.sort;
  if (mine != 0 && mine >= least) {
    for_each_token(values, [&](uint32_t id, float value) {
      const uint64_t key = key_of(value, id);
      if (key < least) return;
      const uint32_t place = atomicAdd(&shared->num_collected, 1);
      if (place < kBatchTokens) sort.collected[place] = key;
    });
  }
  task_barrier();
  const uint32_t num_collected = shared->num_collected;
  const uint64_t* keys = sort.collected;
  uint32_t count = num_collected;
  if (num_collected > kBatchTokens) {  // a thread has very many of the largest
    SortedTokens tokens(values, value_of(largest_key(values, &sort.team)), &sort);
    count = tokens.next(want);
    keys = sort.keys;
  }
  for (uint32_t i = threadIdx.x; i < count; i += kTaskThreads) {
    uint32_t place = 0;
    for (uint32_t k = 0; k < count; ++k) place += keys[k] > keys[i] ? 1 : 0;
    if (place < want) shared->best[place] = keys[i];
  }
  task_barrier();
  return min(count, want);
}

inline __device__ void run_op(const OpContext& context, const program::NominateOperands& op) {
  auto* shared = reinterpret_cast<NominateShared*>(context.shared_memory);
  begin_team(&shared->drawn.sort.team);
  const uint32_t end = min(context.row_end(), context.num_columns());
  for (uint32_t t = context.task.row_begin; t < end; ++t) {
    if (context.column(t).is_drafted == 0) continue;
    const TokenValues values{context.buffer(op.logits) + uint64_t{t} * op.vocab_size,
                             op.vocab_size};
    const StepColumn& before = context.column(t - 1);
    uint32_t count = 1;
    if (draws(before)) {
      const uint32_t id = draw_draft(values, before, before.position, &shared->drawn);
      if (threadIdx.x == 0) shared->best[0] = key_of(values.logits[id], id);
      task_barrier();
    } else {
      count = first_tokens(values, op.num_nominees, shared);
    }
    if (threadIdx.x < op.num_nominees) {
      const bool is_there = threadIdx.x < count;
      const uint32_t id = is_there ? id_of(shared->best[threadIdx.x]) : kNoId;
      uint32_t* nominees = context.words(op.nominees) + uint64_t{2} * t * op.num_nominees;
      nominees[threadIdx.x] = id;
      nominees[op.num_nominees + threadIdx.x] =
          __float_as_uint(is_there ? values.logits[id] : 0.0F);
    }
    task_barrier();
  }
  end_team();
}

}  // namespace ultraspeed::cuda
