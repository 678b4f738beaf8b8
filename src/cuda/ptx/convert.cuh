// Conversions of two values at a time (PTX ISA 7.8, cvt; sm_89 and up), and 2^x.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

// 2^x within 2 ulp, results below 2^-126 are 0; 2^-infinity is 0.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// To nearest, ties to even; `low` goes to the low half.
__device__ __forceinline__ uint32_t f16x2(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ __forceinline__ uint32_t bf16x2(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// Saturating to +-448; NaN stays NaN.
__device__ __forceinline__ uint16_t e4m3x2(float low, float high) {
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ __forceinline__ uint16_t e4m3x2(uint32_t f16_pair) {
  uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(pair) : "r"(f16_pair));
  return pair;
}

// Exact.
__device__ __forceinline__ uint32_t f16x2_of_e4m3x2(uint16_t pair) {
  uint32_t values;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(values) : "h"(pair));
  return values;
}

// a - b of f16 pairs.
__device__ __forceinline__ uint32_t subtract_f16x2(uint32_t a, uint32_t b) {
  uint32_t difference;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(difference) : "r"(a), "r"(b));
  return difference;
}

}  // namespace ultraspeed::cuda::ptx
