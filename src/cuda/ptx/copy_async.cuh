// Copies of 16 bytes from global (L2) to shared memory by single threads (PTX ISA 7.0, cp.async):
// for rows that are gathered.
#pragma once

#include <cstdint>

#include "cuda/ptx/mbarrier.cuh"

namespace ultraspeed::cuda::ptx {

// Copies the first `bytes` (0 or 16) of 16 and fills up with zeros; nothing is read if it is 0.
__device__ __forceinline__ void copy_async_16(uint32_t smem_address, const void* global,
                                              uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(smem_address), "l"(global),
               "r"(bytes)
               : "memory");
}

// Arrives at a barrier, which counts this thread, when all its copies so far are there. Who waits
// for the barrier and lets wgmma read them calls fence_proxy_async() between; a fence of this
// thread would wait for its later copies, too.
__device__ __forceinline__ void copy_async_arrive(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(smem_address(barrier))
               : "memory");
}

// Closes a group of this thread's copies.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most kPending of the groups closed last are unfinished.
template <uint32_t kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace ultraspeed::cuda::ptx
