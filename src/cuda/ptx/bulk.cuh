// Bulk copies from global to shared memory (PTX ISA 8.0, cp.async.bulk; sm_90).
#pragma once

#include <cstdint>

#include "cuda/ptx/mbarrier.cuh"

namespace ultraspeed::cuda::ptx {

// An L2 policy for bytes that are read once: they are the first to be evicted.
__device__ __forceinline__ uint64_t l2_evict_first() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

// Copies `bytes`, a multiple of 16, between addresses that are multiples of 16; the barrier counts
// them. To be announced by mbarrier_arrive_expect_tx.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, uint32_t bytes,
                                          uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(smem_address(shared)),
      "l"(global), "r"(bytes), "r"(smem_address(barrier))
      : "memory");
}

__device__ __forceinline__ void bulk_copy(void* shared, const void* global, uint32_t bytes,
                                          uint64_t* barrier, uint64_t policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(smem_address(shared)),
      "l"(global), "r"(bytes), "r"(smem_address(barrier)), "l"(policy)
      : "memory");
}

// Fetches `bytes`, a multiple of 16, from an address that is one into L2.
__device__ __forceinline__ void bulk_prefetch_l2(const void* global, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes) : "memory");
}

// Orders this thread's ordinary writes to shared memory before reads of the asynchronous proxy
// (wgmma operands, bulk copies) that a barrier puts behind it.
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// The same for global memory, too: between ordinary writes and bulk copies of what they wrote.
__device__ __forceinline__ void fence_proxy_async_all() {
  asm volatile("fence.proxy.async;" ::: "memory");
}

}  // namespace ultraspeed::cuda::ptx
