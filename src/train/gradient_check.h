// Gradients of a net's parameters against central differences, for its tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "train/net_parameters.h"

namespace ultraspeed::train {

// Some numbers of each parameter with a gradient, which must have arrived everywhere. `value`: what
// was differentiated, computed anew. REQUIRES: masters in f64.
inline void expect_central_differences(const std::vector<Parameter>& parameters,
                                       const std::function<double()>& value, double step,
                                       double tolerance) {
  const torch::NoGradGuard no_grad;
  for (const Parameter& p : parameters) {
    if (p.kind == ParameterKind::kState) continue;
    ASSERT_TRUE(p.value.grad().defined()) << p.name;
    EXPECT_GT(p.value.grad().abs().max().item<double>(), 1e-6) << p.name;
    torch::Tensor flat = p.value.view({-1});
    const torch::Tensor gradient = p.value.grad().reshape({-1});
    for (int64_t i = 0; i < flat.numel(); i += std::max<int64_t>(1, flat.numel() / 5)) {
      const double before = flat[i].item<double>();
      flat[i] = before + step;
      const double above = value();
      flat[i] = before - step;
      const double below = value();
      flat[i] = before;
      EXPECT_NEAR(gradient[i].item<double>(), (above - below) / (2 * step), tolerance)
          << p.name << " " << i;
    }
  }
}

}  // namespace ultraspeed::train
