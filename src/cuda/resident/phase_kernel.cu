#include "cuda/resident/phase_kernel.h"

#include "cuda/ops/launch.cuh"
#include "cuda/resident/phase_consumer.cuh"
#include "cuda/resident/phase_finisher.cuh"
#include "cuda/resident/phase_loader.cuh"
#include "cuda/resident/phase_operands.cuh"

namespace ultraspeed::cuda {
namespace {

// Of a thread. A CTA has what its threads are launched with: 168 each.
constexpr uint32_t kConsumerRegisters = 208, kOtherRegisters = 88;
static_assert(kConsumerRegisters * kConsumerWarps + kOtherRegisters * 4 <= 168 * kPhaseRoleWarps);

// For one thread: tells the host when all CTAs run.
__device__ __forceinline__ void count_started(const ResidentPhases& resident) {
  if (ptx::fetch_add(resident.num_started, 1) + 1 == gridDim.x) {
    ptx::store_release_system(resident.has_started, 1);
  }
}

__global__ void __cluster_dims__(kPhaseRanks) __launch_bounds__(kStreamThreads, 1)
    phase_kernel(const __grid_constant__ ResidentPhases resident) {
  extern __shared__ __align__(128) std::byte dynamic[];
  __shared__ PhaseShared shared;
  const StreamRole stream;
  if (threadIdx.x == 0) {
    shared.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::cluster_arrive();
  ptx::cluster_wait();  // before anything is written to other CTAs
  if (threadIdx.x == 0) count_started(resident);
  const PhaseRole role{resident, shared, dynamic, stream};
  if (stream.is_consumer()) {
    ptx::claim_registers<kConsumerRegisters>();
    PhaseConsumer(role).run();
  } else {
    ptx::release_registers<kOtherRegisters>();
    if (stream.is_loader_warp()) {
      PhaseLoader(role).run();
    } else if (stream.is_finisher()) {
      PhaseFinisher(role).run();
    } else {
      PhaseOperands(role).run();
    }
  }
  __syncwarp();
  ptx::cluster_arrive();
  ptx::cluster_wait();  // nobody writes to this CTA any more
  // When a step was aborted. Partner: UnitCta::end_kernels().
  Board* board = resident.board;
  if (threadIdx.x == 0 && ptx::load_acquire(&board->aborted) != 0) {
    ptx::add_release(&board->left, 1);
  }
}

}  // namespace

cudaError_t count_streaming_ctas(uint32_t* ctas) {
  uint32_t clusters = 0;
  const cudaError_t error =
      count_clusters(phase_kernel, kPhaseRanks, kStreamThreads, PhaseLayout::kBytes, &clusters);
  *ctas = clusters * kPhaseRanks;
  return error;
}

cudaError_t launch_phases(const ResidentPhases& resident, const PhaseCtas& ctas,
                          cudaStream_t stream) {
  const LaunchSize size = {dim3(ctas.streaming), kStreamThreads, PhaseLayout::kBytes};
  return launch_with(phase_kernel, size, {is_cooperative()}, stream, resident);
}

uint32_t phase_f32_tiles(const F32Product& data) {
  return F32Tiles(data).count;
}

}  // namespace ultraspeed::cuda
