// The resident kernels of tiles: run the phases of programs (phase.h), step after step, together.
// One streams, in clusters of CTAs; the others have units. Each CTA has a multiprocessor.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/resident/phase.h"
#include "cuda/resident/phase_ctas.h"

namespace ultraspeed::cuda {

// CTAs of launches on the current device: as many clusters as run at the same time and leave over
// what others need, and all those for units and stages. Of a device that has not as many, others
// are as few as there can be; cudaErrorLaunchOutOfResources: it has not even those.
cudaError_t count_phase_ctas(const OtherCtas& others, PhaseCtas* ctas);
// The most CTAs that stream, alone.
cudaError_t count_streaming_ctas(uint32_t* ctas);
// So that its launch does not have to.
cudaError_t load_stage_kernel();

// They wait for each other's counters: launch_units() and launch_stages() come, on streams of their
// own, when resident.has_started says that all CTAs of launch_phases() run, so that none of theirs
// takes the place of a cluster. REQUIRES: ctas as count_phase_ctas() said; nothing else runs.
cudaError_t launch_phases(const ResidentPhases& resident, const PhaseCtas& ctas,
                          cudaStream_t stream);
cudaError_t launch_units(const ResidentPhases& resident, const PhaseCtas& ctas,
                         cudaStream_t stream);
cudaError_t launch_stages(const ResidentPhases& resident, const PhaseCtas& ctas,
                          cudaStream_t stream);

uint32_t phase_f32_tiles(const F32Product& data);
// Shared memory of a unit: what there is, and what a window's and a route's take.
uint32_t phase_unit_bytes();
uint32_t phase_window_bytes(KvFormat format);
uint32_t phase_route_bytes(const program::RouteOperands& op);
// Of a stage.
uint32_t phase_stage_bytes();

}  // namespace ultraspeed::cuda
