// How many CTAs the resident kernels of tiles have (phase_kernel.h).
#pragma once

#include <cstdint>

namespace ultraspeed::cuda {

inline constexpr uint32_t kPhaseRanks = 4;  // CTAs of a cluster that streams

// Multiprocessors that do not stream, at least. Of models that keep few of them busy half have
// general operations.
constexpr uint32_t least_other_ctas(uint32_t hidden_size) {
  constexpr uint32_t kSmallHiddenSize = 2048;
  constexpr uint32_t kOfSmall = 72;
  return hidden_size < kSmallHiddenSize ? kOfSmall : 0;
}

struct PhaseCtas {
  uint32_t streaming = 0, of_units = 0, of_stages = 0;
  uint32_t all() const { return streaming + of_units + of_stages; }
};

}  // namespace ultraspeed::cuda
