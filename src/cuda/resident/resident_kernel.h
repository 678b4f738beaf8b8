// The kernel that stays on the device and runs step after step: no launch between them.
#pragma once

#include "cuda/resident/resident.h"
#include "program/program.h"

namespace ultraspeed::cuda {

// What of a stage this kernel has no room for, although others have (stage_limit()); nullptr if it
// has.
const char* resident_limit(const program::Operands& operands);

// CTAs that run at the same time on a multiprocessor.
cudaError_t count_resident_ctas(uint32_t* ctas);

// It returns after a command to stop, or when a wait passes its deadline.
// REQUIRES: all CTAs run at the same time; while it runs nothing else needs a multiprocessor,
// or waits for the device.
cudaError_t launch_resident(const Resident& resident, uint32_t num_ctas, cudaStream_t stream);

}  // namespace ultraspeed::cuda
