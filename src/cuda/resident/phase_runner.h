// Keeps recorded phases on the current device: the resident kernels (phase_kernel.h), started and
// stopped, and a step of a program at a time.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/resident/phase_kernel.h"
#include "cuda/resident/postbox.h"

namespace ultraspeed::cuda {

struct PhaseOptions {
  std::chrono::milliseconds deadline{60'000};  // of a wait for a phase
  bool is_timed = false;
};

class PhaseRunner {
 public:
  PhaseRunner() = default;
  PhaseRunner(PhaseRunner&&) = default;
  PhaseRunner& operator=(PhaseRunner&&) = default;
  // Memory is given back when no kernel stays.
  ~PhaseRunner() { static_cast<void>(stop()); }

  // programs: a recorder's, for these CTAs. step: device.
  static Result<PhaseRunner> make(std::vector<std::vector<Phase>> programs, const PhaseCtas& ctas,
                                  const MachineView& machine, const StepView* step,
                                  const PhaseOptions& options);

  // Before a step; starts the kernels unless they run. REQUIRES: nothing else runs on the device,
  // or comes to it before stop().
  // Errors: of a launch, or that the kernel which streams has not got its multiprocessors; then
  // none runs any more.
  Status start();
  // Waits until the kernels have returned, if they run.
  Status stop();

  // So many steps of a program on one image, behind each other; REQUIRES: the kernels run. Times
  // are those of the command. Errors: a wait that passed its deadline, with what is missing; then
  // the kernels have returned, and the next start() begins anew.
  Status run(uint32_t program, uint32_t num_steps, const StepTransfer& step);
  const StepTimes& times() const { return postbox_.mailbox()->times; }

  const std::vector<Phase>& phases(uint32_t program) const { return programs_[program].phases; }

  // Of the last step: when each CTA began and ended its part of each phase, [phases, CTAs];
  // zeros where it has none. REQUIRES: they are timed.
  Result<std::vector<PhaseTime>> phase_times(uint32_t program) const;

 private:
  struct Listed {
    std::vector<Phase> phases;
    DeviceMemory groups[kPhaseGroups], counters, times;
    uint32_t epoch = 0;  // steps since the counters were zero
  };

  Result<PhaseProgram> list(std::vector<Phase> phases, bool is_timed);
  Status launch();
  Status await_start() const;
  void abort_start();
  Status join();
  Status reset();
  Status recover(uint32_t program);
  cudaError_t state() const;

  PhaseCtas ctas_;
  std::vector<Listed> programs_;
  DeviceMemory table_;   // PhaseProgram [program]
  DeviceMemory faults_;  // PhaseFault [CTA]
  DeviceMemory num_started_;
  PinnedMemory has_started_;
  Postbox postbox_;
  Stream stream_, unit_stream_, stage_stream_, copy_stream_;
  ResidentPhases resident_;
  // A moved runner has none.
  struct Running {
    Running() = default;
    Running(Running&& other) noexcept : is_true(std::exchange(other.is_true, false)) {}
    Running& operator=(Running&& other) noexcept {
      std::swap(is_true, other.is_true);
      return *this;
    }
    bool is_true = false;
  };
  Running running_;
};

// What a phase is, for people.
std::string phase_name(const Phase& phase);

}  // namespace ultraspeed::cuda
