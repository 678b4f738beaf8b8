// A column's team: the CTAs of a cluster, which share its vocabulary, and reductions over them. All
// threads of the team call these functions together and get the same results, whose bits do not
// depend on how many CTAs the team has. REQUIRES: their number divides kTeamCtas.
#pragma once

#include <bit>
#include <cstdint>

#include "cuda/ops/block.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/mbarrier.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kTeamCtas = 8;  // at most, and the shares of an ordered sum

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

// Tokens of one of `count` shares: neighbours, so that the next pass over them finds them in the
// cache of a CTA.
struct TeamShare {
  uint32_t begin, end;

  __device__ TeamShare(uint32_t vocab_size, uint32_t share, uint32_t count) {
    const uint32_t pieces = (vocab_size + kTeamPiece - 1) / kTeamPiece;
    const uint32_t tokens = (pieces + count - 1) / count * kTeamPiece;
    begin = share * tokens;  // of an empty share: not below its end
    end = min(vocab_size, begin + tokens);
  }
  // A CTA's.
  __device__ explicit TeamShare(uint32_t vocab_size)
      : TeamShare(vocab_size, ptx::cluster_cta_rank(), ptx::cluster_num_ctas()) {}
};

// All CTAs' writes to each other's shared memory before it are visible behind it.
inline __device__ void team_barrier() {
  if (ptx::cluster_num_ctas() == 1) return task_barrier();  // the CTA may have other threads
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
// below kTeamCtas * kCount may be asked, behind a barrier of the CTA.
template <uint32_t kCount, class Of>
__device__ const TeamShared::Numbers* team_exchange(TeamShared* shared, const Of& of) {
  static_assert(kCount <= TeamShared::kMost && kTeamCtas * kCount <= kTaskThreads);
  task_barrier();
  // Who writes to this buffer has met all others in the exchange before: it has been read.
  const uint32_t number = shared->num_exchanges;
  TeamShared::Numbers* of_ctas = shared->of_ctas[number % 2];
  if (threadIdx.x < ptx::cluster_num_ctas() * kCount) {
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
  for (uint32_t cta = 1; cta < ptx::cluster_num_ctas(); ++cta) {
    value = combine(value, std::bit_cast<T>(of_ctas[cta].of[0]));
  }
  return value;
}

// Exact, in any order.
inline __device__ uint64_t team_sum(uint64_t value, TeamShared* shared) {
  return team_reduce(value, shared, [](uint64_t a, uint64_t b) { return a + b; });
}

// The sum over the shares of kTeamCtas CTAs of of(share), which is a thread's sum over its tokens
// of it: each share's by block_reduce(), then share after share.
template <class OfShare>
__device__ double team_sum_in_order(uint32_t vocab_size, TeamShared* shared,
                                    const OfShare& of_share) {
  const auto add = [](double a, double b) { return a + b; };
  const uint32_t ctas = ptx::cluster_num_ctas(), per_cta = kTeamCtas / ctas;
  const uint32_t first = ptx::cluster_cta_rank() * per_cta;
  double sums[kTeamCtas];
  for (uint32_t i = 0; i < per_cta; ++i) {
    const TeamShare share(vocab_size, first + i, kTeamCtas);
    sums[i] = block_reduce(of_share(share), reinterpret_cast<double*>(shared->of_warps), add);
  }
  const TeamShared::Numbers* of_ctas = team_exchange<kTeamCtas>(
      shared, [&](uint32_t i) { return i < per_cta ? std::bit_cast<uint64_t>(sums[i]) : 0; });
  double sum = std::bit_cast<double>(of_ctas[0].of[0]);
  for (uint32_t i = 1; i < kTeamCtas; ++i) {
    sum += std::bit_cast<double>(of_ctas[i / per_cta].of[i % per_cta]);
  }
  return sum;
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
