// Ordering among some warps of a CTA, CTAs of a grid, and grids of a stream: one instruction a
// function.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

// Barrier `id` (1 .. 15) of `threads` threads of the CTA, a multiple of 32; orders their memory.
__device__ __forceinline__ void named_barrier(uint32_t id, uint32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Counts this warp in at that barrier, for others that wait there.
__device__ __forceinline__ void named_barrier_arrive(uint32_t id, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Adds to a word of global memory and returns what it was; releases what this thread has seen.
__device__ __forceinline__ uint32_t add_release(uint32_t* word, uint32_t value) {
  uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(word), "r"(value)
               : "memory");
  return before;
}

__device__ __forceinline__ uint32_t load_acquire(const uint32_t* word) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

// Waits until the grids that this one depends on have ended and their writes are visible.
__device__ __forceinline__ void wait_for_grids() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Lets grids that depend on this one start; they call wait_for_grids() before they use its writes.
__device__ __forceinline__ void launch_dependents() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace ultraspeed::cuda::ptx
