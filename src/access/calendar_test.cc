// Days in places that change their clocks, in every way that places have found.
#include "access/calendar.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

using std::chrono::minutes;

Calendar zone(const std::string& name) {
  return value_of(Calendar::of_zone(name));
}

// "2026-03-29T01:00Z".
UtcTime time_at(std::string_view text) {
  const auto number = [text](size_t at) { return 10 * (text[at] - '0') + text[at + 1] - '0'; };
  return UtcTime(std::chrono::days(*parse_day(text.substr(0, 10)))) +
         minutes(60 * number(11) + number(14));
}

struct Day {
  const char* zone;
  const char* day;
  const char* begin;
  int num_minutes;
};

constexpr Day kDays[] = {
    {"Europe/Berlin", "2026-03-28", "2026-03-27T23:00:00Z", 24 * 60},
    {"Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z", 23 * 60},
    {"Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00Z", 25 * 60},
    {"Europe/Berlin", "2026-10-26", "2026-10-25T23:00:00Z", 24 * 60},
    {"Europe/Berlin", "2050-07-09", "2050-07-08T22:00:00Z", 24 * 60},  // by the rule alone
    {"America/New_York", "2026-03-08", "2026-03-08T05:00:00Z", 23 * 60},
    {"America/New_York", "2026-11-01", "2026-11-01T04:00:00Z", 25 * 60},
    {"Asia/Kolkata", "2026-06-09", "2026-06-08T18:30:00Z", 24 * 60},
    {"Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00:00Z", 24 * 60 + 30},
    {"Australia/Lord_Howe", "2026-10-04", "2026-10-03T13:30:00Z", 24 * 60 - 30},
    // Clocks go from 0:00 to 1:00.
    {"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z", 23 * 60},
    // From 24:00 back to 23:00.
    {"America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00:00Z", 25 * 60},
    {"America/Sao_Paulo", "2018-02-18", "2018-02-18T03:00:00Z", 24 * 60},
    // From 1:00 back to 0:00: a day has two midnights, and begins with the first.
    {"America/Havana", "2025-11-02", "2025-11-02T04:00:00Z", 25 * 60},
    // From 0:01 back to 23:01: a day's first minute is before the last hour of the one before.
    {"America/St_Johns", "2010-11-06", "2010-11-06T02:30:00Z", 24 * 60},
    {"America/St_Johns", "2010-11-07", "2010-11-07T02:30:00Z", 25 * 60},
    // The day after the 29th was the 31st.
    {"Pacific/Apia", "2011-12-29", "2011-12-29T10:00:00Z", 24 * 60},
    {"Pacific/Apia", "2011-12-30", "2011-12-30T10:00:00Z", 0},
    {"Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z", 24 * 60},
};

TEST(CalendarTest, DaysBeginAndEndWithThePlacesClocks) {
  for (const Day& one : kDays) {
    SCOPED_TRACE(one.zone + std::string(" ") + one.day);
    const Calendar calendar = zone(one.zone);
    const int64_t day = *parse_day(one.day);
    const UtcTime begin = calendar.begin_of(day), end = calendar.begin_of(day + 1);
    EXPECT_EQ(utc_text(begin), one.begin);
    EXPECT_EQ(end - begin, minutes(one.num_minutes));
    if (begin == end) continue;
    EXPECT_LT(calendar.day_of(begin - milliseconds(1)), day);
    EXPECT_EQ(calendar.day_of(begin), day);
    EXPECT_EQ(calendar.day_of(end - milliseconds(1)), day);
    EXPECT_GT(calendar.day_of(end), day);
  }
}

TEST(CalendarTest, NoDayComesBack) {
  const Calendar calendar = zone("America/St_Johns");
  const UtcTime midnight = time_at("2010-11-07T02:30Z");
  EXPECT_EQ(calendar.local_text(midnight + minutes(30)), "2010-11-06 23:30 UTC-03:30");
  EXPECT_EQ(day_text(calendar.day_of(midnight + minutes(30))), "2010-11-07");
}

TEST(CalendarTest, HoursThatAreSkippedOrComeTwiceAreTold) {
  const Calendar berlin = zone("Europe/Berlin");
  EXPECT_EQ(berlin.local_text(time_at("2026-03-29T00:59Z")), "2026-03-29 01:59 UTC+01:00");
  EXPECT_EQ(berlin.local_text(time_at("2026-03-29T01:00Z")), "2026-03-29 03:00 UTC+02:00");
  EXPECT_EQ(berlin.local_text(time_at("2026-10-25T00:30Z")), "2026-10-25 02:30 UTC+02:00");
  EXPECT_EQ(berlin.local_text(time_at("2026-10-25T01:30Z")), "2026-10-25 02:30 UTC+01:00");
  EXPECT_EQ(zone("Europe/London").local_text(time_at("2026-01-01T12:00Z")), "2026-01-01 12:00 UTC");
}

TEST(CalendarTest, AnOffsetIsAlwaysTheSame) {
  const Calendar nepal(minutes(345)), west(minutes(-210));
  EXPECT_EQ(Calendar().name(), "UTC");
  EXPECT_EQ(nepal.name(), "UTC+05:45");
  EXPECT_EQ(west.name(), "UTC-03:30");
  EXPECT_EQ(west.local_text(time_at("2026-06-09T03:29Z")), "2026-06-08 23:59 UTC-03:30");
  const int64_t day = *parse_day("2026-03-29");
  EXPECT_EQ(utc_text(Calendar().begin_of(day)), "2026-03-29T00:00:00Z");
  EXPECT_EQ(utc_text(nepal.begin_of(day)), "2026-03-28T18:15:00Z");
  EXPECT_EQ(nepal.begin_of(day + 1) - nepal.begin_of(day), minutes(24 * 60));
}

TEST(CalendarTest, TheErrorNamesTheZoneThatThereIsNot) {
  for (const char* name : {"Mars/Olympus", "", "/etc/localtime", "../zoneinfo/UTC", "Europe",
                           "file:Europe/Berlin", "Fixed/UTC+05:00:00"}) {
    const auto calendar = Calendar::of_zone(name);
    ASSERT_FALSE(calendar.has_value()) << name;
    EXPECT_EQ(calendar.error().code, ErrorCode::kNotFound);
    EXPECT_NE(calendar.error().message.find(fmt::format("no time zone '{}'", name)),
              std::string::npos)
        << calendar.error().message;
  }
}

TEST(CalendarTest, EveryTimeHasOneDay) {
  const std::string zones[] = {"Africa/Cairo",     "America/Havana", "America/Sao_Paulo",
                               "America/St_Johns", "Asia/Shanghai",  "Australia/Lord_Howe",
                               "Europe/Berlin",    "Pacific/Apia",   "Pacific/Kiritimati"};
  for (const std::string& name : zones) {
    const Calendar calendar = zone(name);
    rc::check(name, [&] {
      const UtcTime time(std::chrono::minutes(*rc::gen::inRange<int64_t>(1440, 70'000'000)));
      const int64_t day = calendar.day_of(time);
      RC_ASSERT(calendar.begin_of(day) <= time);
      RC_ASSERT(time < calendar.begin_of(day + 1));
      RC_ASSERT(calendar.day_of(time + minutes(1)) >= day);
    });
  }
}

}  // namespace
}  // namespace ultraspeed::access
