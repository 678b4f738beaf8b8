// The comparison that every executor in f32 must pass.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>

#include "golden/golden_case.h"

namespace ultraspeed::test {

// docs/numerics.md section 4 derives it from the depth and width of the models.
inline constexpr float kGoldenTolerance = 2e-4F;

inline void expect_golden(ModelRunner* runner, const GoldenCase& golden) {
  const auto result = compare(runner, golden);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->wrong_tokens, 0u) << golden.name;
  EXPECT_LT(result->largest_difference, kGoldenTolerance) << golden.name;
  std::printf("%s: largest logit difference %.2g, smallest gap %.2g\n", golden.name.c_str(),
              static_cast<double>(result->largest_difference),
              static_cast<double>(result->smallest_gap));
}

}  // namespace ultraspeed::test
