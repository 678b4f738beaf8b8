// The warps of a CTA that streams pages through a ring in a cluster whose CTAs share K.
#pragma once

#include <cstdint>

#include "cuda/ptx/cluster.cuh"
#include "cuda/tile/partial_exchange.cuh"

namespace ultraspeed::cuda {

// Warps 0 .. 7: two consumer warpgroups; warp 8 loads, warps 9 and 10 finish sums, warp 11 loads
// operands that come apart from weights, or idles.
inline constexpr uint32_t kConsumerWarps = 8;
inline constexpr uint32_t kLoaderWarp = kConsumerWarps;
inline constexpr uint32_t kFirstFinishWarp = kLoaderWarp + 1;
inline constexpr uint32_t kOperandWarp = kFirstFinishWarp + kFinishWarps;
inline constexpr uint32_t kStreamThreads = 384;

// Dynamic shared memory: 227 KiB a CTA (sm_90) less 1 KiB for barriers.
inline constexpr uint32_t kStreamSharedBytes = 226 * 1024;

// A thread's place in the cluster and in its CTA.
struct StreamRole {
  __device__ StreamRole()
      : rank(ptx::cluster_cta_rank()),
        cluster(ptx::cluster_index()),
        num_clusters(ptx::num_clusters()),
        warp(__shfl_sync(~0u, threadIdx.x / 32, 0)),
        lane(threadIdx.x % 32),
        warpgroup(warp / 4) {}

  __device__ bool is_consumer() const { return warp < kConsumerWarps; }
  __device__ bool is_loader_warp() const { return warp == kLoaderWarp; }
  __device__ bool is_loader() const { return is_loader_warp() && lane == 0; }
  __device__ bool is_finisher() const {
    return warp >= kFirstFinishWarp && warp < kFirstFinishWarp + kFinishWarps;
  }
  __device__ bool is_operand_loader() const { return warp == kOperandWarp && lane == 0; }
  __device__ uint32_t finish_warp() const { return warp - kFirstFinishWarp; }

  // How many of num_units this cluster has: its number and every num_clusters behind it.
  __device__ uint32_t units(uint32_t num_units) const {
    return cluster < num_units ? (num_units - cluster - 1) / num_clusters + 1 : 0;
  }

  uint32_t rank;  // which part of K
  uint32_t cluster, num_clusters;
  uint32_t warp, lane, warpgroup;  // the compiler knows that a warp shares its number
};

}  // namespace ultraspeed::cuda
