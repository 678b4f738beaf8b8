#include "access/clock.h"

#include <fmt/format.h>

#include "access/calendar.h"

namespace ultraspeed::access {

UtcTime SystemClock::now() const {
  return std::chrono::floor<milliseconds>(std::chrono::system_clock::now());
}

std::string utc_text(UtcTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::seconds>(time - day));
  return fmt::format("{}T{:02}:{:02}:{:02}Z", day_text(day.time_since_epoch().count()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

}  // namespace ultraspeed::access
