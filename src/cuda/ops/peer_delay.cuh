// Other ranks where a bench has one alone (machine_options.h).
#pragma once

#include <cstdint>

#include "cuda/ptx/timer.cuh"
#include "cuda/view.h"

namespace ultraspeed::cuda {

// For one thread that has sent this rank's share of a sum: until those of the others would be here.
inline __device__ void await_emulated_peers(const MachineView& machine) {
  if (machine.peer_delay_ns == 0) return;
  const uint64_t begin = ptx::global_nanoseconds();
  while (ptx::global_nanoseconds() - begin < machine.peer_delay_ns) {
  }
}

}  // namespace ultraspeed::cuda
