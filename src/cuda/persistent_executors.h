// The two of make_persistent_executor() (executor.h), one for each arithmetic, and what they have
// in common.
#pragma once

#include <memory>

#include "cuda/device_turn.h"
#include "cuda/executor.h"
#include "cuda/machine_executor.h"

namespace ultraspeed::cuda {

// Leaves kernels on the device. A destructor takes a DeviceTurn, in which this one leaves, too:
// that needs stop(), so it is the derived class's.
class ResidentExecutor : public MachineExecutor, public Occupant {
 public:
  // Nobody could be told what goes wrong; the next step finds it.
  void leave() final { static_cast<void>(stop()); }

  // The runtime copies with kernels, which need room.
  Status copy_cache(const program::CacheCopy& copy) final;

 protected:
  using MachineExecutor::MachineExecutor;

  // Waits until the kernels have returned, if they run.
  virtual Status stop() = 0;
};

// In f32: the program's own tasks.
std::unique_ptr<program::Executor> make_task_executor(const PersistentOptions& options);
// In w4a8: phases, with the graph executor's tiles.
std::unique_ptr<program::Executor> make_phase_executor(const PersistentOptions& options);

}  // namespace ultraspeed::cuda
