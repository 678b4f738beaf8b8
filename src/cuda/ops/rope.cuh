// Rotary position embedding. Frequencies and angles are binary32, as the reference's; each function
// is rounded once.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda {

struct RopeAngle {
  float cosine, sine;
};

// Of the angle position * theta^(-2 i / rotary_dim).
inline __device__ RopeAngle rope_angle(uint32_t position, uint32_t i, uint32_t rotary_dim,
                                       float theta) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
  const float power =
      static_cast<float>(pow(static_cast<double>(theta), static_cast<double>(exponent)));
  const float frequency = 1.0F / power;
  const float angle = static_cast<float>(position) * frequency;
  return {static_cast<float>(cos(static_cast<double>(angle))),
          static_cast<float>(sin(static_cast<double>(angle)))};
}

}  // namespace ultraspeed::cuda
