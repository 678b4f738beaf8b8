// The resident kernels of tiles (resident/phase_kernel.h) at the shapes of a step, beside the same
// stages in a graph.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "base/result.h"
#include "cuda/bench/phase_figures.h"

namespace ultraspeed::cuda {

class StepMachine;

// stages: of a step, in order. The machine's buffers are as after a step.
Result<PhaseBench> measure_phases(const StepMachine& machine, const std::vector<uint32_t>& stages,
                                  cudaStream_t stream);

}  // namespace ultraspeed::cuda
