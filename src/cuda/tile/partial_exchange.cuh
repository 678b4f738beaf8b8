// Adds the partial sums of a tile [64 rows, n columns] that the consumer warpgroups of a cluster of
// kRanks (1, 2 or 4) CTAs hold, always in the order of (CTA rank, warpgroup). CTA r finishes the
// columns that lanes with lane % 4 / kShares == r hold (ptx/wgmma.cuh): nobody but the finishing
// warps waits for another CTA.
//
// A buffer in the shared memory of each CTA, f32:
//   [2 kRanks sources][n / 8][kShares = 4 / kRanks][32 pairs of rows][2 rows][2 columns]
// Pair 8 w + g is rows 16 w + g and 16 w + g + 8 of the tile.
#pragma once

#include <cstdint>

#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/mbarrier.cuh"
#include "cuda/ptx/pin.cuh"
#include "cuda/tile/mxfp4_page.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kFinishWarps = 2;  // warp f has the f-th of two columns

template <uint32_t kColumns, uint32_t kBuffers, uint32_t kRanks>
struct PartialExchange {
  static constexpr uint32_t kSources = kRanks * 2;
  static constexpr uint32_t kShares = 4 / kRanks;
  static constexpr uint32_t kGroups = kColumns / 8 * kShares;  // pairs of columns
  static constexpr uint32_t kBufferBytes = kSources * kGroups * 512;
  static constexpr uint32_t kBytes = kBuffers * kBufferBytes;

  uint64_t full[kBuffers];   // completes when all sources have written
  uint64_t empty[kBuffers];  // completes when the finishing warps of all CTAs have read

  // Called by one thread; a cluster barrier and fence_mbarrier_init() follow.
  __device__ void init() {
    for (uint32_t i = 0; i < kBuffers; ++i) {
      ptx::mbarrier_init(&full[i], 1);
      ptx::mbarrier_init(&empty[i], kRanks * kFinishWarps);
    }
  }

  // Where in the cluster CTA `rank` of those that share a tile is: one that shares with none may be
  // in a larger cluster.
  __device__ __forceinline__ static uint32_t cta(uint32_t rank) {
    return kRanks == 1 ? ptx::cluster_cta_rank() : rank;
  }

  // For all threads of consumer warpgroup `warpgroup` of CTA `rank`: gives away the sums of the
  // cluster's tile number `index` (0, 1, 2, ...).
  __device__ __forceinline__ void send(std::byte* buffers, uint32_t index, uint32_t rank,
                                       uint32_t warpgroup, const float (&sums)[kColumns / 2]) {
    const uint32_t buffer = index % kBuffers;
    ptx::mbarrier_wait_cluster(&empty[buffer], (index / kBuffers & 1) ^ 1);
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t pair = threadIdx.x % 128 / 32 * 8 + lane / 4;
    const uint32_t source = rank * 2 + warpgroup;
    const uint32_t local = ptx::smem_address(buffers) + buffer * kBufferBytes +
                           source * kGroups * 512 + lane % kShares * 512 + pair * 16;
    const uint32_t remote = ptx::map_shared_rank(local, cta(lane % 4 / kShares));
    const uint32_t barrier =
        ptx::map_shared_rank(ptx::smem_address(&full[buffer]), cta(lane % 4 / kShares));
#pragma unroll
    for (uint32_t j = 0; j < kColumns / 8; ++j) {
      ptx::store_async(remote + j * kShares * 512, sums[4 * j], sums[4 * j + 1], sums[4 * j + 2],
                       sums[4 * j + 3], barrier);
    }
  }

  // For a finishing warp: waits for tile number `index`; warp 0 announces the bytes.
  __device__ __forceinline__ void receive(uint32_t index, uint32_t finish_warp) {
    const uint32_t buffer = index % kBuffers;
    if (finish_warp == 0 && threadIdx.x % 32 == 0) {
      ptx::mbarrier_arrive_expect_tx(&full[buffer], kBufferBytes);
    }
    ptx::mbarrier_wait_cluster(&full[buffer], index / kBuffers & 1);
  }

  struct Sums {
    float first, second;  // rows 16 w + g and 16 w + g + 8 of pair 8 w + g = this lane
  };
  __device__ __forceinline__ static uint32_t column(uint32_t group, uint32_t rank,
                                                    uint32_t finish_warp) {
    return group / kShares * 8 + (rank * kShares + group % kShares) * 2 + finish_warp;
  }
  // The sums of that column; read when this returns.
  __device__ __forceinline__ static Sums sum(const std::byte* buffers, uint32_t index,
                                             uint32_t group, uint32_t finish_warp) {
    const auto* values = reinterpret_cast<const float*>(buffers + index % kBuffers * kBufferBytes +
                                                        group * 512 + threadIdx.x % 32 * 16);
    Sums sums = {values[finish_warp], values[finish_warp + 2]};
#pragma unroll
    for (uint32_t source = 1; source < kSources; ++source) {
      values += kGroups * 128;
      sums.first += values[finish_warp];
      sums.second += values[finish_warp + 2];
    }
    ptx::pin_read(sums.first);
    ptx::pin_read(sums.second);
    return sums;
  }

  // For a finishing warp: its reads of tile number `index` of `count` are done. Partner: send();
  // for the last tiles nobody waits, and nobody is told: when a CTA has received and finished its
  // last tile, no other CTA writes to its memory, and it may exit.
  __device__ __forceinline__ void release(uint32_t index, uint32_t count) {
    __syncwarp();
    const uint32_t lane = threadIdx.x % 32;
    if (lane < kRanks && index + kBuffers < count) {
      ptx::mbarrier_arrive_cluster(
          ptx::map_shared_rank(ptx::smem_address(&empty[index % kBuffers]), cta(lane)));
    }
  }

  // For a finishing warp: its columns of tile number `index` of `count`, group by group.
  __device__ __forceinline__ void take(const std::byte* buffers, uint32_t index, uint32_t count,
                                       uint32_t finish_warp, Sums (&sums)[kGroups]) {
    receive(index, finish_warp);
#pragma unroll
    for (uint32_t i = 0; i < kGroups; ++i) sums[i] = sum(buffers, index, i, finish_warp);
    release(index, count);
  }
};

}  // namespace ultraspeed::cuda
