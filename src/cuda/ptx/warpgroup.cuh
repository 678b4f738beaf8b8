// Warpgroups of a CTA (sm_90a): how many registers their threads have, and barriers among them.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

// Gives registers back to the CTA; for all warps of a warpgroup.
template <uint32_t kRegisters>
__device__ __forceinline__ void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Waits for registers that another warpgroup gives back.
template <uint32_t kRegisters>
__device__ __forceinline__ void claim_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// A barrier of `threads` threads of the CTA (whole warps); orders their memory accesses. Barrier 0
// is __syncthreads().
__device__ __forceinline__ void named_barrier(uint32_t barrier, uint32_t threads) {
  asm volatile("barrier.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// The same; whether `value` holds for all of them.
__device__ __forceinline__ bool named_barrier_all(uint32_t barrier, uint32_t threads, bool value) {
  uint32_t all;
  asm volatile(
      "{\n"
      ".reg .pred mine, all;\n"
      "setp.ne.u32 mine, %3, 0;\n"
      "barrier.red.and.pred all, %1, %2, mine;\n"
      "selp.u32 %0, 1, 0, all;\n"
      "}"
      : "=r"(all)
      : "r"(barrier), "r"(threads), "r"(static_cast<uint32_t>(value))
      : "memory");
  return all != 0;
}

// Counts this warp in at that barrier, for others that wait there.
__device__ __forceinline__ void named_barrier_arrive(uint32_t barrier, uint32_t threads) {
  asm volatile("barrier.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

}  // namespace ultraspeed::cuda::ptx
