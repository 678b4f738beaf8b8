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

}  // namespace ultraspeed::cuda
