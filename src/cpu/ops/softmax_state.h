// The running state of a softmax-weighted sum, and its merge: docs/numerics.md section 3.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace ultraspeed::cpu {

// m = the largest logit so far, l = sum exp(logit - m), o = sum exp(logit - m) * value,
// [v_head_dim].
struct SoftmaxState {
  float m = -std::numeric_limits<float>::infinity();
  float l = 0;
  float* o = nullptr;

  // A sink is a logit without a value; nullptr: none.
  void start(const float* sink, uint32_t v_head_dim) {
    std::fill(o, o + v_head_dim, 0.0F);
    m = sink == nullptr ? -std::numeric_limits<float>::infinity() : *sink;
    l = sink == nullptr ? 0.0F : 1.0F;
  }

  void merge(float other_m, float other_l, const float* other_o, uint32_t v_head_dim) {
    const float largest = std::max(m, other_m);
    // exp(0) is 1, and one of them mostly is.
    const float mine = m == largest ? 1.0F : std::exp(m - largest);
    const float others = other_m == largest ? 1.0F : std::exp(other_m - largest);
    for (uint32_t i = 0; i < v_head_dim; ++i) o[i] = o[i] * mine + other_o[i] * others;
    l = l * mine + other_l * others;
    m = largest;
  }

  void finish(uint32_t v_head_dim, float* out) const {
    for (uint32_t i = 0; i < v_head_dim; ++i) out[i] = o[i] / l;
  }
};

}  // namespace ultraspeed::cpu
