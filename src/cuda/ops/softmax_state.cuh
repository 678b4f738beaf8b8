// The running state of a softmax-weighted sum, and its merge: docs/numerics.md section 3.
#pragma once

#include <cstdint>

#include "cuda/ops/math.cuh"

namespace ultraspeed::cuda {

inline __device__ float minus_infinity() {
  return -__int_as_float(0x7f800000);
}

// What the weighted values so far and those of another part are multiplied with in a merge.
struct MergeFactors {
  float mine = 0, others = 0;
};

// m = the largest logit so far, l = sum exp(logit - m).
struct SoftmaxState {
  float m, l;

  // A sink is a logit without a value; nullptr: none.
  __device__ void start(const float* sink) {
    m = sink == nullptr ? minus_infinity() : *sink;
    l = sink == nullptr ? 0.0F : 1.0F;
  }

  __device__ MergeFactors merge(float other_m, float other_l) {
    const float largest = m < other_m ? other_m : m;
    const MergeFactors factors{exp_f32(m - largest), exp_f32(other_m - largest)};
    l = l * factors.mine + other_l * factors.others;
    m = largest;
    return factors;
  }
};

}  // namespace ultraspeed::cuda
