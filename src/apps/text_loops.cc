#include "apps/text_loops.h"

#include <algorithm>

namespace ultraspeed::apps {

bool ends_in_loop(std::span<const int32_t> text) {
  for (size_t period = 1; period <= kMaxLoopPeriod; ++period) {
    const size_t size = std::max(kMinLoopTokens, 3 * period);
    if (text.size() < size) break;
    const auto end = text.last(size);
    if (std::equal(end.begin() + static_cast<std::ptrdiff_t>(period), end.end(), end.begin())) {
      return true;
    }
  }
  return false;
}

}  // namespace ultraspeed::apps
