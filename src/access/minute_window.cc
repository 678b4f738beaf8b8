#include "access/minute_window.h"

#include <algorithm>

namespace ultraspeed::access {
namespace {

int64_t second_of(UtcTime time) {
  return std::max<int64_t>(0, to_ms(time) / 1000);
}

}  // namespace

void MinuteWindow::add(UtcTime now, uint64_t amount) {
  const int64_t second = second_of(now);
  Second& slot = seconds_[static_cast<size_t>(second % kNumSeconds)];
  if (slot.second != second) slot = {second, 0};
  slot.amount += amount;
}

uint64_t MinuteWindow::sum(UtcTime now) const {
  // Also what a clock that was set back has left in the future: it does not make limits void.
  const int64_t first = second_of(now) - kNumSeconds + 1;
  uint64_t sum = 0;
  for (const Second& slot : seconds_) sum += slot.second >= first ? slot.amount : 0;
  return sum;
}

std::optional<std::chrono::seconds> MinuteWindow::wait(UtcTime now, uint64_t amount,
                                                       uint64_t limit) const {
  if (amount > limit) return std::nullopt;
  for (int64_t seconds = 0; seconds < kNumSeconds; ++seconds) {
    if (sum(now + std::chrono::seconds(seconds)) + amount <= limit) {
      return std::chrono::seconds(seconds);
    }
  }
  return std::chrono::seconds(kNumSeconds);
}

}  // namespace ultraspeed::access
