// scaled(n): how often a randomised test repeats itself: n times, or a quarter of that in the
// slower sanitizer builds. ./bootstrap soak sets US_TEST_SCALE to run the same tests for longer.
#pragma once

#include <cstdlib>

namespace ultraspeed::test {

inline int scaled(int base) {
#ifdef US_SANITIZED
  base = (base + 3) / 4;
#endif
  const char* scale = std::getenv("US_TEST_SCALE");
  const int factor = scale == nullptr ? 1 : std::atoi(scale);
  return factor > 1 ? base * factor : base;
}

}  // namespace ultraspeed::test
