// Functions of one number that operations share.
#pragma once

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

}  // namespace ultraspeed::cuda
