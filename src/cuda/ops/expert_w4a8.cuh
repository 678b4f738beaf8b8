// What the gate/up and the down kernel of expert_w4a8.h share.
#pragma once

#include <cstdint>

#include "cuda/ops/expert_w4a8.h"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/tile/e4m3_operand.h"
#include "cuda/tile/keep_bits.cuh"
#include "cuda/tile/mxfp4_page.h"
#include "cuda/tile/mxfp4_product.cuh"
#include "cuda/tile/page_ring.cuh"
#include "cuda/tile/partial_exchange.cuh"
#include "cuda/tile/stream_role.cuh"

namespace ultraspeed::cuda {

// CTAs of gate/up on a multiprocessor: of two, one computes while the other begins or ends a tile,
// and the next launch fills its ring while this one ends.
template <uint32_t kColumns>
inline constexpr uint32_t kGateUpCtas = kColumns == 8 ? 2 : 1;

// Buffers for partial sums: one where columns are many, so that 5 pages stay in flight.
template <uint32_t kColumns, uint32_t kRanks>
using ExpertExchange = PartialExchange<kColumns, kColumns <= 16 ? 2 : 1, kRanks>;

// For the loader: what the grid before wrote may be read from here on, and the next grid may start.
// It starts no earlier, so that what a grid reads before this call was written two grids before it.
// The other warps write what depends on pages loaded later; or, of units without pages, at once
// zeros and biases of the route's experts, to partial sums, which share memory with nothing that
// the grid before still reads.
__device__ inline void await_grid_before() {
  ptx::wait_for_grids();
  ptx::launch_dependents();
}

// Slots of live experts; 0 where the step has no column of the launch. Reads the route.
__device__ inline uint32_t live_slots(const ExpertLaunch& launch) {
  return present_columns(launch) == 0 ? 0 : *launch.route.num_slots;
}

// Blocks of columns in shared memory: the first, and from one to the next.
template <uint32_t kColumns>
__device__ __forceinline__ uint64_t operand_descriptor(const std::byte* codes) {
  return ptx::wgmma_descriptor(ptx::smem_address(codes));
}
template <uint32_t kColumns>
inline constexpr uint32_t kDescriptorStep = E4m3Operand<kColumns>::kBlockBytes / 16;

}  // namespace ultraspeed::cuda
