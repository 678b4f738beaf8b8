#include <algorithm>

#include "cuda/ops/launch.cuh"
#include "cuda/resident/phase_kernel.h"
#include "cuda/resident/phase_unit.cuh"

namespace ultraspeed::cuda {
namespace {

// All that a multiprocessor has but for static shared memory.
constexpr uint32_t kUnitBytes = 220 * 1024;
static_assert(kUnitBytes + sizeof(UnitShared) <= 227 * 1024);

__global__ void __launch_bounds__(kTaskThreads, 1)
    unit_kernel(const __grid_constant__ ResidentPhases resident) {
  extern __shared__ __align__(128) std::byte scratch[];
  __shared__ UnitShared shared;
  const uint32_t first = resident.num_ctas - resident.num_stage_ctas - gridDim.x;
  run_unit_cta<PhaseUnits>(resident, shared, scratch, first);
}

}  // namespace

cudaError_t count_phase_ctas(const OtherCtas& others, PhaseCtas* ctas) {
  int device = 0, multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (error == cudaSuccess) error = count_streaming_ctas(&ctas->streaming);
  // So that the kernels are loaded: while another one runs that would have to wait for its end.
  if (error == cudaSuccess) error = load_stage_kernel();
  if (error == cudaSuccess) {
    error = allow_shared_bytes(reinterpret_cast<const void*>(unit_kernel), kUnitBytes);
  }
  if (error != cudaSuccess) return error;
  const auto all = static_cast<uint32_t>(multiprocessors);
  OtherCtas needed = others;
  if (kPhaseRanks + needed.of_units + needed.of_stages > all) needed = OtherCtas();
  const uint32_t least = needed.of_units + needed.of_stages;
  if (kPhaseRanks + least > all) return cudaErrorLaunchOutOfResources;
  while (ctas->streaming > kPhaseRanks && ctas->streaming + least > all) {
    ctas->streaming -= kPhaseRanks;
  }
  ctas->of_units = needed.of_units;
  ctas->of_stages = all - ctas->streaming - needed.of_units;
  return cudaSuccess;
}

cudaError_t launch_units(const ResidentPhases& resident, const PhaseCtas& ctas,
                         cudaStream_t stream) {
  // Not cooperative: such a launch waits for others to end.
  const LaunchSize size = {dim3(ctas.of_units), kTaskThreads, kUnitBytes};
  return launch_with(unit_kernel, size, {}, stream, resident);
}

uint32_t phase_unit_bytes() {
  return kUnitBytes;
}
uint32_t phase_window_bytes(KvFormat format) {
  return format == KvFormat::kE4m3 ? WindowShared<PhaseTile<KvFormat::kE4m3>>::kBytes
                                   : WindowShared<PhaseTile<KvFormat::kBf16>>::kBytes;
}
uint32_t phase_route_bytes(const program::RouteOperands& op) {
  return route_shared_bytes<kPhaseRouteCtas>(op);
}

}  // namespace ultraspeed::cuda
