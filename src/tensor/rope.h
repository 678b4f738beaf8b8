// Rotary position embedding (RoPE, arXiv 2104.09864): how fast each pair of dimensions turns, with
// the two ways in which published models stretch it over longer contexts. One definition for the
// configuration that reads it, the programs that carry it and the executors that rotate.
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor/host_device.h"

namespace ultraspeed::tensor {

struct Rope {
  // Pairs that turn fast keep their frequency, slow ones are divided by `factor`, and between them
  // lies a linear ramp.
  enum class Scaling : uint8_t {
    kNone,
    kLlama3,  // the ramp is over turns within original_positions (Llama 3.1's config.json)
    kYarn,    // the ramp is over pair numbers (YaRN, arXiv 2309.00071 section 3.2)
  };

  float theta = 0;
  Scaling scaling = Scaling::kNone;
  float factor = 1;
  float ramp_slow = 0;           // where a pair is divided by the whole factor ...
  float ramp_fast = 0;           // ... and where it keeps its frequency
  float original_positions = 0;  // of kLlama3
  float attention_factor = 1;    // of kYarn: cosines and sines are multiplied by it

  bool operator==(const Rope&) const = default;
};

// The frequency, in radians a position, that pair `pair` has instead of the plain one, which is
// theta^(-2 pair / rotary_dim).
US_HOST_DEVICE inline float stretched(const Rope& rope, uint32_t pair, float frequency) {
  if (rope.scaling == Rope::Scaling::kNone) return frequency;
  constexpr float kTurn = 6.283185307179586F;
  const float place = rope.scaling == Rope::Scaling::kYarn
                          ? static_cast<float>(pair)
                          : rope.original_positions * frequency / kTurn;
  const float along = (place - rope.ramp_slow) / (rope.ramp_fast - rope.ramp_slow);
  const float kept = fminf(fmaxf(along, 0.0F), 1.0F);
  return (1.0F - kept) * (frequency / rope.factor) + kept * frequency;
}

}  // namespace ultraspeed::tensor
