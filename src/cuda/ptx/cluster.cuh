// Clusters: CTAs that run at the same time and write to each other's shared memory (sm_90).
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

__device__ __forceinline__ uint32_t cluster_cta_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ uint32_t cluster_num_ctas() {
  uint32_t number;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(number));
  return number;
}

// Which cluster of the grid this is, for clusters along x.
__device__ __forceinline__ uint32_t cluster_index() {
  uint32_t index;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(index));
  return index;
}

__device__ __forceinline__ uint32_t num_clusters() {
  uint32_t number;
  asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(number));
  return number;
}

// The twin in CTA `rank` of an address in this CTA's shared memory.
__device__ __forceinline__ uint32_t map_shared_rank(uint32_t address, uint32_t rank) {
  uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(address), "r"(rank));
  return mapped;
}

__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Numbers in a CTA's shared memory: a cluster barrier stands between who writes and who reads.
__device__ __forceinline__ void store_shared_cluster(uint32_t cluster_address, uint64_t value) {
  asm volatile("st.shared::cluster.u64 [%0], %1;" ::"r"(cluster_address), "l"(value) : "memory");
}
__device__ __forceinline__ void store_shared_cluster(uint32_t cluster_address, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(cluster_address), "f"(value) : "memory");
}

__device__ __forceinline__ uint64_t load_shared_cluster(uint32_t cluster_address) {
  uint64_t value;
  asm volatile("ld.shared::cluster.u64 %0, [%1];" : "=l"(value) : "r"(cluster_address) : "memory");
  return value;
}

// Writes 16 bytes to a CTA's shared memory; its barrier, in the same CTA, counts them.
__device__ __forceinline__ void store_async(uint32_t cluster_address, float x, float y, float z,
                                            float w, uint32_t cluster_barrier) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], "
      "{%1, %2, %3, %4}, [%5];" ::"r"(cluster_address),
      "f"(x), "f"(y), "f"(z), "f"(w), "r"(cluster_barrier)
      : "memory");
}

}  // namespace ultraspeed::cuda::ptx
