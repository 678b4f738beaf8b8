// The days of a place: those of the trial window, of the chat's queue and of totals. Counted from
// 1 January 1970. Where clocks are changed a day has 23 or 25 hours, or whatever it takes until the
// next one; a day that a place has left out begins and ends at the same time.
#pragma once

#include <cctz/time_zone.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "access/clock.h"
#include "base/result.h"

namespace ultraspeed::access {

class Calendar {
 public:
  Calendar() = default;  // UTC
  // What local clocks are ahead of UTC; in (-24 h, 24 h).
  explicit Calendar(std::chrono::minutes utc_offset);
  // As the system's time zone database has it: "Europe/Berlin". Errors: kNotFound.
  static Result<Calendar> of_zone(const std::string& name);

  // "UTC", "UTC+08:00", "Europe/Berlin".
  const std::string& name() const { return name_; }
  // The last day that has begun: no day comes back, also where clocks are set back over midnight.
  int64_t day_of(UtcTime time) const;
  // When local clocks show the day first.
  UtcTime begin_of(int64_t day) const;
  // "2026-06-09 00:00 UTC+08:00"; the seconds are left out.
  std::string local_text(UtcTime time) const;

 private:
  cctz::time_zone zone_;
  std::string name_ = "UTC";
};

// "2026-06-09".
std::string day_text(int64_t day);
// nullopt: no such day, or one before 1970.
std::optional<int64_t> parse_day(std::string_view text);

}  // namespace ultraspeed::access
