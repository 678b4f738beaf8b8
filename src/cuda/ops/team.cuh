// A column's team: the CTAs of a cluster, which share its vocabulary, and reductions over them. All
// threads of the team call these functions together and get the same results.
#pragma once

#include <bit>
#include <cstdint>

#include "cuda/ops/block.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/mbarrier.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kTeamCtas = 8;

// What CTAs take of a vocabulary is whole pieces, of as many tokens.
inline constexpr uint32_t kTeamPiece = 1024;

// In each CTA.
struct TeamShared {
  static constexpr uint32_t kMost = 8;  // numbers that are exchanged at a time
  struct Numbers {
    uint64_t of[kMost];
  };
  Numbers of_ctas[2][kTeamCtas];
  uint64_t of_warps[kTaskWarps];
  uint32_t num_exchanges;
};

inline __device__ bool is_first_of_team() {
  return ptx::cluster_cta_rank() == 0 && threadIdx.x == 0;
}

// A CTA's tokens: neighbours, so that the next pass over them finds them in its cache.
struct TeamShare {
  uint32_t begin, end;

  __device__ explicit TeamShare(uint32_t vocab_size) {
    const uint32_t pieces = (vocab_size + kTeamPiece - 1) / kTeamPiece;
    const uint32_t tokens = (pieces + kTeamCtas - 1) / kTeamCtas * kTeamPiece;
    begin = ptx::cluster_cta_rank() * tokens;  // of an empty share: not below its end
    end = min(vocab_size, begin + tokens);
  }
};

// All CTAs' writes to each other's shared memory before it are visible behind it.
inline __device__ void team_barrier() {
  ptx::cluster_arrive();
  ptx::cluster_wait();
}

// Before all else, and behind all else: the others' shared memory is there in between.
inline __device__ void begin_team(TeamShared* shared) {
  if (threadIdx.x == 0) shared->num_exchanges = 0;
  team_barrier();
}
inline __device__ void end_team() {
  team_barrier();
}

// result[cta].of[i] = of(i) of each CTA, on all of them; valid until the next exchange. Threads
// below kTeamCtas * kCount are asked, behind a barrier of the CTA.
template <uint32_t kCount, class Of>
__device__ const TeamShared::Numbers* team_exchange(TeamShared* shared, const Of& of) {
  static_assert(kCount <= TeamShared::kMost && kTeamCtas * kCount <= kTaskThreads);
  __syncthreads();
  // Who writes to this buffer has met all others in the exchange before: it has been read.
  const uint32_t number = shared->num_exchanges;
  TeamShared::Numbers* of_ctas = shared->of_ctas[number % 2];
  if (threadIdx.x < kTeamCtas * kCount) {
    const uint32_t i = threadIdx.x % kCount;
    const uint32_t mine = ptx::smem_address(&of_ctas[ptx::cluster_cta_rank()].of[i]);
    const uint64_t value = of(i);
    ptx::store_shared_cluster(ptx::map_shared_rank(mine, threadIdx.x / kCount), value);
  }
  team_barrier();
  if (threadIdx.x == 0) shared->num_exchanges = number + 1;
  return of_ctas;
}

// The threads' values combined, in an order that is always the same.
template <class T, class Combine>
__device__ T team_reduce(T value, TeamShared* shared, const Combine& combine) {
  value = block_reduce(value, reinterpret_cast<T*>(shared->of_warps), combine);
  const TeamShared::Numbers* of_ctas =
      team_exchange<1>(shared, [&](uint32_t) { return std::bit_cast<uint64_t>(value); });
  value = std::bit_cast<T>(of_ctas[0].of[0]);
#pragma unroll
  for (uint32_t cta = 1; cta < kTeamCtas; ++cta) {
    value = combine(value, std::bit_cast<T>(of_ctas[cta].of[0]));
  }
  return value;
}

template <class T>
__device__ T team_sum(T value, TeamShared* shared) {
  return team_reduce(value, shared, [](T a, T b) { return a + b; });
}
template <class T>
__device__ T team_max(T value, TeamShared* shared) {
  return team_reduce(value, shared, [](T a, T b) { return a < b ? b : a; });
}
template <class T>
__device__ T team_min(T value, TeamShared* shared) {
  return team_reduce(value, shared, [](T a, T b) { return b < a ? b : a; });
}

}  // namespace ultraspeed::cuda
