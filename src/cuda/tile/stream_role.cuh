// The warps of a CTA that streams pages through a ring in a cluster whose CTAs share K.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/ptx/cluster.cuh"
#include "cuda/tile/partial_exchange.cuh"

namespace ultraspeed::cuda {

// Warps: teams of two consumer warpgroups, one that loads, two that finish sums, one that loads
// operands that come apart from weights, or idles.
inline constexpr uint32_t kTeamWarps = 8;
inline constexpr uint32_t kTeamWarpgroups = 2;
constexpr uint32_t stream_threads(uint32_t num_teams) {
  return (num_teams * kTeamWarps + 2 + kFinishWarps) * 32;
}

// Dynamic shared memory: 227 KiB a CTA (sm_90) less 1 KiB for barriers.
inline constexpr uint32_t kStreamSharedBytes = 226 * 1024;

// A thread's place in the cluster and in its CTA.
struct StreamRole {
  __device__ explicit StreamRole(uint32_t num_teams = 1)
      : rank(ptx::cluster_cta_rank()),
        cluster(ptx::cluster_index()),
        num_clusters(ptx::num_clusters()),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        team(warp / kTeamWarps),
        warpgroup(warp / 4 % kTeamWarpgroups),
        loader_warp(num_teams * kTeamWarps) {}

  __device__ bool is_consumer() const { return warp < loader_warp; }
  __device__ bool is_loader_warp() const { return warp == loader_warp; }
  __device__ bool is_loader() const { return is_loader_warp() && lane == 0; }
  __device__ bool is_finisher() const {
    return warp > loader_warp && warp <= loader_warp + kFinishWarps;
  }
  __device__ bool is_operand_loader() const {
    return warp == loader_warp + 1 + kFinishWarps && lane == 0;
  }
  __device__ uint32_t finish_warp() const { return warp - loader_warp - 1; }

  // How many of num_units this cluster has: its number and every num_clusters behind it.
  __device__ uint32_t units(uint32_t num_units) const {
    return cluster < num_units ? (num_units - cluster - 1) / num_clusters + 1 : 0;
  }

  uint32_t rank;  // which part of K
  uint32_t cluster, num_clusters;
  uint32_t warp, lane;
  uint32_t team, warpgroup;  // of a consumer; its warpgroup in the team
  uint32_t loader_warp;
};

// Keeps the reads of a drain: no value of `bits` is likely, nor does a store hurt.
__device__ __forceinline__ void keep_bits(uint32_t bits, std::byte* output) {
  if (bits == 0x9e3779b9u) *output = std::byte{1};
}

}  // namespace ultraspeed::cuda
