// The resident kernel of tiles: runs the phases of a program (phase.h) for some steps.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/resident/phase.h"

namespace ultraspeed::cuda {

// CTAs of a launch on the current device: whole clusters, one CTA a multiprocessor.
cudaError_t count_phase_ctas(uint32_t* ctas);

// REQUIRES: count_phase_ctas(), num_ctas as it said.
cudaError_t launch_phases(const PhaseProgram& program, uint32_t num_ctas, cudaStream_t stream);

// Bytes of a slot of the page ring, and how many it has.
uint32_t phase_slot_bytes();
uint32_t phase_ring_slots();
// Shared memory of a window's unit.
uint32_t phase_window_bytes(KvFormat format);
uint32_t phase_route_bytes(const program::RouteOperands& op);
uint32_t phase_f32_columns();  // a multiple of which K has to be
uint32_t phase_f32_tiles(const F32Product& data);

}  // namespace ultraspeed::cuda
