// How much happened in the last minute, so that no span of 60 s ever has more than a limit.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "access/clock.h"

namespace ultraspeed::access {

// Counts whole seconds of the clock, 61 of them: any span of 60 s touches no more.
class MinuteWindow {
 public:
  void add(UtcTime now, uint64_t amount);
  uint64_t sum(UtcTime now) const;
  // When `amount` more would not exceed the limit: 0, now; nullopt: never.
  std::optional<std::chrono::seconds> wait(UtcTime now, uint64_t amount, uint64_t limit) const;

 private:
  static constexpr int64_t kNumSeconds = 61;
  struct Second {
    int64_t second = -1;  // since 1970
    uint64_t amount = 0;
  };

  std::array<Second, kNumSeconds> seconds_;  // at index second % 61
};

}  // namespace ultraspeed::access
