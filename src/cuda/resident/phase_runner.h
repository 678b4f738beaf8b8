// Runs recorded phases on the current device with the two resident kernels (phase_kernel.h).
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/resident/phase_kernel.h"

namespace ultraspeed::cuda {

class PhaseRunner {
 public:
  // phases: a recorder's, for these CTAs. step: device.
  static Result<PhaseRunner> make(std::span<const Phase> phases, const PhaseCtas& ctas,
                                  const MachineView& machine, const StepView* step);

  // So many steps in one launch of both kernels, behind and before what else the stream does;
  // returns when they are over, with the microseconds from before the first launch to the end.
  // REQUIRES: nothing else runs on the device.
  // Errors: of a launch, or that the kernel which streams has not got its multiprocessors. After
  // one behind the first launch that kernel waits for ever: it has no deadlines yet, and the
  // process has to be ended.
  Result<double> run(uint32_t num_steps, cudaStream_t stream);

  // Two steps, and of the second when each CTA began and ended its part of each phase, [phases,
  // CTAs], those that stream first.
  Result<std::vector<PhaseTime>> run_timed(cudaStream_t stream);

 private:
  Status await_start(cudaStream_t stream) const;

  PhaseCtas ctas_;
  uint32_t num_phases_ = 0;
  DeviceMemory streamed_, of_units_, counters_;
  PinnedMemory has_started_;
  Stream unit_stream_;
  PhaseProgram program_;
};

}  // namespace ultraspeed::cuda
