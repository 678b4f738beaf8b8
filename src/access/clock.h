// Time as the access module keeps it: UTC in milliseconds, from a clock that tests can turn. Days,
// of the trial window, of the chat's queue and of totals, begin at a configured offset from UTC.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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

// A day is counted from 1 January 1970 and lasts 24 hours.
struct Calendar {
  std::chrono::minutes utc_offset{0};  // what local clocks are ahead of UTC; in (-24 h, 24 h)

  int64_t day_of(UtcTime time) const;
  UtcTime begin_of(int64_t day) const;
  // "2026-06-09 00:00 UTC+08:00"; the seconds are left out.
  std::string local_text(UtcTime time) const;
};

// "2026-06-09".
std::string day_text(int64_t day);
// nullopt: no such day, or one before 1970.
std::optional<int64_t> parse_day(std::string_view text);

}  // namespace ultraspeed::access
