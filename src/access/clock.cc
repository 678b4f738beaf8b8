#include "access/clock.h"

#include <fmt/format.h>

#include <cstdlib>

namespace ultraspeed::access {
namespace {

constexpr std::chrono::days kDay{1};

}  // namespace

UtcTime SystemClock::now() const {
  return std::chrono::floor<milliseconds>(std::chrono::system_clock::now());
}

std::string utc_text(UtcTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::seconds>(time - day));
  return fmt::format("{}T{:02}:{:02}:{:02}Z", day_text(day.time_since_epoch().count()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

int64_t Calendar::day_of(UtcTime time) const {
  return std::chrono::floor<std::chrono::days>(time + utc_offset).time_since_epoch().count();
}

UtcTime Calendar::begin_of(int64_t day) const {
  return UtcTime(kDay * day) - utc_offset;
}

std::string Calendar::local_text(UtcTime time) const {
  const UtcTime local = time + utc_offset;
  const auto day = std::chrono::floor<std::chrono::days>(local);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::minutes>(local - day));
  const int64_t minutes = utc_offset.count();
  std::string text = fmt::format("{} {:02}:{:02} UTC", day_text(day.time_since_epoch().count()),
                                 clock.hours().count(), clock.minutes().count());
  if (minutes != 0) {
    text += fmt::format("{}{:02}:{:02}", minutes < 0 ? '-' : '+', std::abs(minutes) / 60,
                        std::abs(minutes) % 60);
  }
  return text;
}

std::string day_text(int64_t day) {
  const std::chrono::year_month_day date{
      std::chrono::sys_days(std::chrono::days(static_cast<int32_t>(day)))};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
}

}  // namespace ultraspeed::access
