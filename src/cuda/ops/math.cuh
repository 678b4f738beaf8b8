// Functions of one number that operations share.
#pragma once

#include "program/operands.h"

namespace ultraspeed::cuda {

// Rounded from binary64: within 1 ulp of any other exp that is.
inline __device__ float exp_f32(float x) {
  return static_cast<float>(exp(static_cast<double>(x)));
}

inline __device__ float sigmoid(float x) {
  return 1.0F / (1.0F + exp_f32(-x));
}

// gate * sigmoid(gate) * up, the order of cpu::silu_multiply().
inline __device__ float silu_multiply(float gate, float up) {
  const float sigmoid = 1.0F / (1.0F + exp_f32(fminf(88.0F, -gate)));
  return gate * sigmoid * up;
}

// How gate and up join in a row of experts; limit: SwigluClamp's. The clamped form is in the order
// of cpu::clamped_swiglu().
inline __device__ float join_gate_up(float gate, float up, float limit) {
  if (limit == 0) return silu_multiply(gate, up);
  // Comparisons that keep a NaN.
  const float gated = gate > limit ? limit : gate;
  const float below = up > limit ? limit : up;
  const float lifted = below < -limit ? -limit : below;
  const float slope = program::SwigluClamp::kSlope * gated;
  const float share = 1.0F / (1.0F + exp_f32(fminf(88.0F, -slope)));
  return gated * share * (lifted + 1.0F);
}

}  // namespace ultraspeed::cuda
