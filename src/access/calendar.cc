#include "access/calendar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace ultraspeed::access {
namespace {

const cctz::civil_day kFirstDay(1970, 1, 1);

std::string offset_text(int64_t minutes) {
  if (minutes == 0) return "UTC";
  return fmt::format("UTC{}{:02}:{:02}", minutes < 0 ? '-' : '+', std::abs(minutes) / 60,
                     std::abs(minutes) % 60);
}

// The library also takes paths, and "Fixed/UTC+08:00:00".
bool is_zone_name(std::string_view name) {
  const auto may_be_in_one = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           std::string_view("+-/_").find(c) != std::string_view::npos;
  };
  return !name.empty() && name[0] != '/' && std::ranges::all_of(name, may_be_in_one);
}

}  // namespace

Calendar::Calendar(std::chrono::minutes utc_offset)
    : zone_(cctz::fixed_time_zone(utc_offset)), name_(offset_text(utc_offset.count())) {}

Result<Calendar> Calendar::of_zone(const std::string& name) {
  Calendar calendar;
  if (!is_zone_name(name) || !cctz::load_time_zone(name, &calendar.zone_)) {
    return make_error(ErrorCode::kNotFound,
                      "there is no time zone '{}' in this system's database (Debian's package "
                      "tzdata); expected a name such as \"Europe/Berlin\"",
                      name);
  }
  calendar.name_ = name;
  return calendar;
}

int64_t Calendar::day_of(UtcTime time) const {
  int64_t day = cctz::civil_day(zone_.lookup(time).cs) - kFirstDay;
  while (begin_of(day + 1) <= time) ++day;
  return day;
}

UtcTime Calendar::begin_of(int64_t day) const {
  const auto midnight = zone_.lookup(cctz::civil_second(kFirstDay + day));
  // Of two midnights the first one; where clocks skip it, when they do.
  return midnight.kind == cctz::time_zone::civil_lookup::SKIPPED ? midnight.trans : midnight.pre;
}

std::string Calendar::local_text(UtcTime time) const {
  const auto local = zone_.lookup(time);
  return fmt::format("{} {:02}:{:02} {}", day_text(cctz::civil_day(local.cs) - kFirstDay),
                     local.cs.hour(), local.cs.minute(), offset_text(local.offset / 60));
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
