// How many CTAs the resident kernels of tiles have (phase_kernel.h).
#pragma once

#include <cstdint>

namespace ultraspeed::cuda {

inline constexpr uint32_t kPhaseRanks = 4;  // CTAs of a cluster that streams

struct PhaseCtas {
  uint32_t streaming = 0, of_units = 0, of_stages = 0;
  uint32_t all() const { return streaming + of_units + of_stages; }
};

}  // namespace ultraspeed::cuda
