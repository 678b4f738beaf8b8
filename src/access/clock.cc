#include "access/clock.h"

#include <fmt/format.h>

#include <charconv>
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

std::optional<int64_t> parse_day(std::string_view text) {
  int year = 0;
  unsigned month = 0, day = 0;
  const auto number = [&text](size_t begin, size_t end, auto* out) {
    return std::from_chars(text.data() + begin, text.data() + end, *out).ptr == text.data() + end;
  };
  if (text.size() != 10 || text[4] != '-' || text[7] != '-' || !number(0, 4, &year) ||
      !number(5, 7, &month) || !number(8, 10, &day) || year < 1970) {
    return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days(date).time_since_epoch().count();
}

}  // namespace ultraspeed::access
