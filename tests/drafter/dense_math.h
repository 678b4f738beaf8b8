// What the dense second implementations have in common: plain loops in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "support/checkpoint_generator.h"

namespace ultraspeed::test {

inline std::vector<double> dense_multiply(const DenseWeight& weight, const std::vector<double>& x) {
  std::vector<double> y(weight.rows, 0.0);
  for (uint32_t r = 0; r < weight.rows; ++r) {
    for (uint32_t c = 0; c < weight.columns; ++c) {
      y[r] += static_cast<double>(weight.values[size_t{r} * weight.columns + c]) * x[c];
    }
  }
  return y;
}

// RMSNorm, epsilon 1e-5.
inline std::vector<double> dense_norm(const std::vector<float>& weight,
                                      const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  const double scale = 1 / std::sqrt(sum / static_cast<double>(x.size()) + 1e-5);
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * static_cast<double>(weight[i]);
  return y;
}

// Pairs (i, i + r / 2) of the first r dimensions, theta 10000.
inline void dense_rotate(std::vector<double>* head, uint32_t r, uint32_t position) {
  for (uint32_t i = 0; i < r / 2; ++i) {
    const double angle = position * std::pow(10000.0, -2.0 * i / r);
    const double low = (*head)[i];
    const double high = (*head)[i + r / 2];
    (*head)[i] = low * std::cos(angle) - high * std::sin(angle);
    (*head)[i + r / 2] = high * std::cos(angle) + low * std::sin(angle);
  }
}

// gate[i] = silu(gate[i]) * up[i].
inline void dense_swiglu(std::vector<double>* gate, const std::vector<double>& up) {
  for (size_t i = 0; i < gate->size(); ++i) {
    (*gate)[i] = (*gate)[i] / (1 + std::exp(-(*gate)[i])) * up[i];
  }
}

}  // namespace ultraspeed::test
