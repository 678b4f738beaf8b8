// How many CTAs the resident kernels of tiles have (phase_kernel.h).
#pragma once

#include <cstdint>

namespace ultraspeed::program {
struct Program;
}

namespace ultraspeed::cuda {

inline constexpr uint32_t kPhaseRanks = 4;  // CTAs of a cluster that streams

// Multiprocessors that do not stream.
struct OtherCtas {
  uint32_t of_units = 8;   // a unit of rows, or of a window, each
  uint32_t of_stages = 1;  // at least
};

// What suits a program: of models that keep few multiprocessors busy more, a window of each KV
// head; where attention to all positions is as frequent as any other, more for that.
OtherCtas other_ctas(const program::Program& program);

struct PhaseCtas {
  uint32_t streaming = 0, of_units = 0, of_stages = 0;
  uint32_t all() const { return streaming + of_units + of_stages; }
};

}  // namespace ultraspeed::cuda
