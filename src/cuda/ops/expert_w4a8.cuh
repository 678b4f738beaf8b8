// What the gate/up and the down kernel of expert_w4a8.h share: the roles of a CTA's warps and its
// shared memory.
#pragma once

#include <cstdint>

#include "cuda/ops/expert_w4a8.h"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/tile/e4m3_operand.h"
#include "cuda/tile/mxfp4_page.h"
#include "cuda/tile/mxfp4_product.cuh"
#include "cuda/tile/page_ring.cuh"
#include "cuda/tile/partial_exchange.cuh"

namespace ultraspeed::cuda {

// Warps: teams of two consumer warpgroups, one that loads, two that finish sums, an idle one.
inline constexpr uint32_t kTeamWarps = 8;
inline constexpr uint32_t kTeamWarpgroups = 2;
constexpr uint32_t expert_threads(uint32_t num_teams) {
  return (num_teams * kTeamWarps + 4) * 32;
}

// Dynamic shared memory: 227 KiB a CTA (sm_90) less 1 KiB for barriers.
inline constexpr uint32_t kExpertSharedBytes = 226 * 1024;

// Buffers for partial sums: one where columns are many, so that 5 pages stay in flight.
template <uint32_t kColumns, uint32_t kRanks>
using ExpertExchange = PartialExchange<kColumns, kColumns <= 16 ? 2 : 1, kRanks>;

// A thread's place in the cluster and in its CTA.
struct ExpertRole {
  __device__ explicit ExpertRole(uint32_t num_teams)
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
  __device__ uint32_t finish_warp() const { return warp - loader_warp - 1; }

  uint32_t rank;  // which part of K
  uint32_t cluster, num_clusters;
  uint32_t warp, lane;
  uint32_t team, warpgroup;  // of a consumer; its warpgroup in the team
  uint32_t loader_warp;
};

// Of num_units, that the cluster of `role` has.
__device__ inline uint32_t units_of_cluster(uint32_t num_units, const ExpertRole& role) {
  return role.cluster < num_units ? (num_units - role.cluster - 1) / role.num_clusters + 1 : 0;
}

// For the loader: what the grid before wrote may be read from here on, and the next grid may start.
// It starts no earlier, so that what a grid reads before this call was written two grids before it.
// The other warps write only what depends on pages loaded later.
__device__ inline void await_grid_before() {
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
}

// How many of the operands' columns the step has.
__device__ inline uint32_t present_columns(const ExpertLaunch& launch) {
  if (launch.num_columns == nullptr) return launch.columns;
  const uint32_t all = *launch.num_columns;
  return all > launch.first_column ? min(all - launch.first_column, launch.columns) : 0;
}

// Keeps the reads of a drain: no value of `bits` is likely, nor does a store hurt.
__device__ __forceinline__ void keep_bits(uint32_t bits, std::byte* output) {
  if (bits == 0x9e3779b9u) *output = std::byte{1};
}

// Blocks of columns in shared memory: the first, and from one to the next.
template <uint32_t kColumns>
__device__ __forceinline__ uint64_t operand_descriptor(const std::byte* codes) {
  return ptx::wgmma_descriptor(ptx::smem_address(codes));
}
template <uint32_t kColumns>
inline constexpr uint32_t kDescriptorStep = E4m3Operand<kColumns>::kBlockBytes / 16;

}  // namespace ultraspeed::cuda
