#include "cuda/bench/drain.h"

#include "cuda/ptx/bulk.cuh"
#include "cuda/tile/keep_bits.cuh"
#include "cuda/tile/page_ring.cuh"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kStages = 11;  // 187 KB in flight a multiprocessor
constexpr uint32_t kReaders = 256;
constexpr uint32_t kThreads = kReaders + 32;  // the last warp loads
constexpr uint32_t kSharedBytes = kStages * kDrainPageBytes;

// An equal share of the pages a CTA.
__global__ void __launch_bounds__(kThreads, 1) drain_kernel(Drain drain) {
  extern __shared__ __align__(128) std::byte stages[];
  __shared__ RingBarriers<kStages> ring;
  if (threadIdx.x == 0) {
    ring.init(kReaders / 32);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const uint32_t share = (drain.num_pages + gridDim.x - 1) / gridDim.x;
  const uint32_t begin = min(drain.num_pages, share * blockIdx.x);
  const uint32_t end = min(drain.num_pages, begin + share);
  const bool is_loader = threadIdx.x == kReaders;
  if (!is_loader && threadIdx.x > kReaders) return;
  const uint64_t policy = ptx::l2_evict_first();
  uint32_t bits = 0;
  RingPosition<kStages> at;
  for (uint32_t page = begin; page < end; ++page, at.advance()) {
    std::byte* stage = stages + at.stage * kDrainPageBytes;
    if (is_loader) {
      claim_stage(ring, at, kDrainPageBytes);
      ptx::bulk_copy(stage, drain.pages + uint64_t{page} * kDrainPageBytes, kDrainPageBytes,
                     &ring.full[at.stage], policy);
      continue;
    }
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    const auto* words = reinterpret_cast<const uint4*>(stage);
    for (uint32_t i = threadIdx.x; i < kDrainPageBytes / 16; i += kReaders) bits ^= words[i].x;
    leave_stage(ring, at.stage);
  }
  keep_bits(bits, drain.output);
}

}  // namespace

cudaError_t launch_drain(const Drain& drain, uint32_t num_ctas, cudaStream_t stream) {
  const cudaError_t error = cudaFuncSetAttribute(
      drain_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedBytes));
  if (error != cudaSuccess) return error;
  drain_kernel<<<num_ctas, kThreads, kSharedBytes, stream>>>(drain);
  return cudaGetLastError();
}

}  // namespace ultraspeed::cuda
