// Counters in global memory with which CTAs of a grid wait for each other.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

// Publishes this thread's writes, and those that a barrier put before it, with the count.
// Partner: load_acquire().
__device__ __forceinline__ void add_release(uint32_t* counter, uint32_t value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(value) : "memory");
}

// Adds and returns what the counter was; publishes as add_release(), and sees what others
// published.
__device__ __forceinline__ uint32_t fetch_add(uint32_t* counter, uint32_t value) {
  uint32_t before;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(counter), "r"(value)
               : "memory");
  return before;
}

__device__ __forceinline__ uint32_t load_acquire(const uint32_t* counter) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}

// Publishes as add_release().
__device__ __forceinline__ void store_release(uint32_t* word, uint32_t value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

// Words that the host reads or writes, in its pinned memory.
__device__ __forceinline__ void store_release_system(uint32_t* word, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}
__device__ __forceinline__ uint32_t load_acquire_system(const uint32_t* word) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}

// Without ordering memory: what was read before must be in registers, and nothing written is
// published.
__device__ __forceinline__ void add_relaxed(uint32_t* counter, uint32_t value) {
  asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(value) : "memory");
}

// Without ordering memory: fence_acq_rel() behind it does, once the value is as awaited.
__device__ __forceinline__ uint32_t load_relaxed(const uint32_t* counter) {
  uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}
__device__ __forceinline__ void fence_acq_rel() {
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

// For a whole warp: whether the counter has reached `value`; what was published is visible then.
__device__ __forceinline__ bool has_reached(const uint32_t* counter, uint32_t value) {
  bool is_reached = false;
  if (threadIdx.x % 32 == 0) is_reached = load_acquire(counter) >= value;
  is_reached = __any_sync(~0u, is_reached);
  __syncwarp();
  return is_reached;
}

__device__ __forceinline__ void wait_counter(const uint32_t* counter, uint32_t value) {
  while (!has_reached(counter, value)) __nanosleep(50);
}

}  // namespace ultraspeed::cuda::ptx
