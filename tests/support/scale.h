// How often a randomised test repeats itself. ./bootstrap soak sets US_TEST_SCALE to run the same
// tests for longer; under a sanitizer, which finds other mistakes at several times the cost, they
// make a fifth of the trials, or a tenth where it looks for data races.
#pragma once

#include <algorithm>
#include <cstdlib>

namespace ultraspeed::test {

#ifdef ULTRASPEED_TRIAL_DIVISOR
inline constexpr bool kIsSanitized = true;
inline constexpr int kTrialDivisor = ULTRASPEED_TRIAL_DIVISOR;
#else
inline constexpr bool kIsSanitized = false;
inline constexpr int kTrialDivisor = 1;
#endif

// US_TEST_SCALE, 1 without it.
inline int test_scale() {
  const char* scale = std::getenv("US_TEST_SCALE");
  return scale == nullptr ? 1 : std::max(1, std::atoi(scale));
}

// The number of trials, of `base` in an ordinary run.
inline int scaled(int base) {
  return std::max(1, base * test_scale() / kTrialDivisor);
}

// How often something has to come up in that many trials, of `base` in an ordinary run.
template <class Count>
constexpr Count at_least(Count base) {
  return base / kTrialDivisor;
}

}  // namespace ultraspeed::test
