// The middle one of samples.
#pragma once

#include <algorithm>
#include <vector>

namespace ultraspeed::test {

// REQUIRES: not empty.
inline double middle(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace ultraspeed::test
