// Rotary position embedding. Frequencies and angles are binary32, as the reference's; each function
// is rounded once.
#pragma once

#include <cstdint>

#include "tensor/rope.h"

namespace ultraspeed::cuda {

struct RopeAngle {
  float cosine, sine;
};

// Of the angle position * frequency of pair i.
inline __device__ RopeAngle rope_angle(uint32_t position, uint32_t i, uint32_t rotary_dim,
                                       const tensor::Rope& rope) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
  const float power =
      static_cast<float>(pow(static_cast<double>(rope.theta), static_cast<double>(exponent)));
  const float frequency = tensor::stretched(rope, i, 1.0F / power);
  const float angle = static_cast<float>(position) * frequency;
  return {static_cast<float>(cos(static_cast<double>(angle))) * rope.attention_factor,
          static_cast<float>(sin(static_cast<double>(angle))) * rope.attention_factor};
}

}  // namespace ultraspeed::cuda
