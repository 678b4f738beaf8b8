// scaled(n): how often a randomised test repeats itself. ./bootstrap soak sets US_TEST_SCALE to run
// the same tests for longer; every other run uses the base count.
#pragma once

#include <cstdlib>

namespace ultraspeed::test {

inline int scaled(int base) {
  const char* scale = std::getenv("US_TEST_SCALE");
  const int factor = scale == nullptr ? 1 : std::atoi(scale);
  return factor > 1 ? base * factor : base;
}

}  // namespace ultraspeed::test
