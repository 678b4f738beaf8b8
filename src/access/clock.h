// Time as the access module keeps it: UTC in milliseconds, from a clock that tests can turn.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ultraspeed::access {

using std::chrono::milliseconds;
using UtcTime = std::chrono::sys_time<milliseconds>;

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual UtcTime now() const = 0;
};

class SystemClock final : public Clock {
 public:
  UtcTime now() const override;
};

// As the database stores it.
constexpr int64_t to_ms(UtcTime time) {
  return time.time_since_epoch().count();
}
constexpr UtcTime from_ms(int64_t ms) {
  return UtcTime(milliseconds(ms));
}

// "2026-06-09T00:00:00Z"; what is below a second is left out.
std::string utc_text(UtcTime time);

}  // namespace ultraspeed::access
