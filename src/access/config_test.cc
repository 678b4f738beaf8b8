// The configuration: the defaults, the example, and what is said of mistakes.
#include "access/config.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace ultraspeed::access {
namespace {

std::string example() {
  std::stringstream text;
  text << std::ifstream(US_SOURCE_DIR "/examples/ultraspeed.toml").rdbuf();
  return text.str();
}

std::string error_of(const std::string& text) {
  const auto config = parse_config("a.toml", text);
  return config ? "" : config.error().message;
}

TEST(ConfigTest, WithoutTheSectionThereIsNoAccessControl) {
  const auto config = parse_config("a.toml", "port = 8080\n");
  ASSERT_TRUE(config.has_value());
  EXPECT_FALSE(config->has_value());
}

TEST(ConfigTest, TheExampleHasTheSeedsValues) {
  const auto config = parse_config("/etc/ultraspeed/ultraspeed.toml", example());
  ASSERT_TRUE(config.has_value()) << config.error().message;
  ASSERT_TRUE(config->has_value());
  const AccessConfig& access = **config;
  EXPECT_EQ(day_text(access.window.first_day), "2026-06-09");
  EXPECT_EQ(day_text(access.window.last_day), "2026-06-23");
  EXPECT_EQ(access.currency, "CNY");
  EXPECT_EQ(access.prices.cached_input.text(), "0.025");
  EXPECT_EQ(access.prices.input.text(), "3");
  EXPECT_EQ(access.prices.output.text(), "6");
  EXPECT_EQ(access.tier(Tier::kStandard).multiplier.text(), "1");
  EXPECT_EQ(access.tier(Tier::kFast).multiplier.text(), "3");
  EXPECT_FALSE(access.tier(Tier::kFast).takes_plan_keys);
  EXPECT_TRUE(access.tier(Tier::kStandard).takes_plan_keys);
  EXPECT_EQ(access.chat.max_entries_per_day, 10U);
  EXPECT_EQ(access.chat.session, std::chrono::minutes(30));
  EXPECT_EQ(access.chat.idle, std::chrono::minutes(5));
}

// What the example says is what a file gets that says nothing but where the database is.
TEST(ConfigTest, TheExampleIsTheDefaults) {
  const AccessConfig written = **parse_config("a.toml", example());
  const AccessConfig defaults = **parse_config("a.toml", "[access]\ndatabase = 'access.db'\n");
  EXPECT_EQ(written.database_file, defaults.database_file);
  EXPECT_EQ(written.calendar.name(), defaults.calendar.name());
  EXPECT_EQ(written.window.first_day, defaults.window.first_day);
  EXPECT_EQ(written.window.last_day, defaults.window.last_day);
  EXPECT_EQ(written.prices.output, defaults.prices.output);
  EXPECT_EQ(written.limits.requests_per_minute, defaults.limits.requests_per_minute);
  EXPECT_EQ(written.limits.tokens_per_minute, defaults.limits.tokens_per_minute);
  EXPECT_EQ(written.limits.max_concurrent, defaults.limits.max_concurrent);
  EXPECT_EQ(written.chat.max_input_tokens, defaults.chat.max_input_tokens);
  EXPECT_EQ(written.chat.num_slots, defaults.chat.num_slots);
  for (size_t i = 0; i < kNumTiers; ++i) {
    EXPECT_EQ(written.tiers[i].multiplier.thousandths, defaults.tiers[i].multiplier.thousandths);
    EXPECT_EQ(written.tiers[i].takes_plan_keys, defaults.tiers[i].takes_plan_keys);
    EXPECT_EQ(written.tiers[i].needs_approval, defaults.tiers[i].needs_approval);
  }
}

TEST(ConfigTest, EverythingCanBeSet) {
  const auto config = parse_config("/etc/us/a.toml", R"(
[access]
database = "db"
journal = "/run/journal"
utc_offset = "-03:30"
first_day = 2027-01-01
last_day = 2027-01-01
[prices]
output = "0.5"
[tiers.fast]
multiplier = "2.5"
needs_approval = false
[limits]
budget = 10
[chat]
session_minutes = 1
absence_seconds = 5
)");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  const AccessConfig& access = **config;
  EXPECT_EQ(access.database_file, "/etc/us/db");
  EXPECT_EQ(access.journal_file, "/run/journal");
  EXPECT_EQ(access.calendar.name(), "UTC-03:30");
  EXPECT_EQ(utc_text(access.window.begin(access.calendar)), "2027-01-01T03:30:00Z");
  EXPECT_EQ(utc_text(access.window.end(access.calendar)), "2027-01-02T03:30:00Z");
  EXPECT_EQ(access.tier(Tier::kFast).multiplier.text(), "2.5");
  EXPECT_EQ(access.limits.budget->text(), "10");
  EXPECT_EQ(access.chat.session, std::chrono::minutes(1));
  EXPECT_EQ(access.chat.absence, std::chrono::seconds(5));
}

TEST(ConfigTest, TheWindowMayBeInATimeZone) {
  const auto config = parse_config("a.toml", R"(
[access]
database = "db"
time_zone = "Europe/Berlin"
first_day = 2026-03-28
last_day = 2026-03-29
)");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  const AccessConfig& access = **config;
  EXPECT_EQ(access.calendar.name(), "Europe/Berlin");
  EXPECT_EQ(utc_text(access.window.begin(access.calendar)), "2026-03-27T23:00:00Z");
  EXPECT_EQ(utc_text(access.window.end(access.calendar)), "2026-03-29T22:00:00Z");
}

TEST(ConfigTest, SaysWhatIsWrongAndWhere) {
  const std::string start = "[access]\ndatabase = 'a'\n";
  const std::pair<std::string, std::string> cases[] = {
      {"[access", "a.toml:1: "},
      {"[+08:00]", "a.toml:1: "},
      {"[access]", "a.toml:1: [access] needs database"},
      {"access = 1", "a.toml:1: 'access' must be a section"},
      {"[prices]\noutput = 1", "a.toml:1: 'prices' does nothing without [access]"},
      {start + "colour = 1", "a.toml:3: [access] has no 'colour'"},
      {start + "utc_offset = '+8'", "a.toml:3: access.utc_offset: expected what local time"},
      {start + "utc_offset = '+24:00'", "access.utc_offset"},
      {start + "time_zone = 'Mars/Olympus'",
       "a.toml:3: access.time_zone: there is no time zone 'Mars/Olympus' in this system's"},
      {start + "time_zone = '/etc/localtime'", "no time zone '/etc/localtime'"},
      {start + "time_zone = '../Europe/Berlin'", "no time zone '../Europe/Berlin'"},
      {start + "time_zone = 8", "expected the name of a time zone, such as"},
      {start + "time_zone = 'Asia/Shanghai'\nutc_offset = '+08:00'",
       "[access] has utc_offset and time_zone; leave out one of them"},
      {start + "time_zone = 'Pacific/Apia'\nfirst_day = 2011-12-30\nlast_day = 2011-12-30",
       "the trial has no time: 2011-12-30 was left out in Pacific/Apia"},
      {start + "first_day = '2026-06-09'", "expected a date, such as 2026-06-09, without quotes"},
      {start + "first_day = 2026-07-01", "the trial begins on 2026-07-01, after it ends"},
      {start + "database = ''", "a.toml:3: "},
      {start + "journal = 'b/../a'", "a.toml:1: journal = \"b/../a\" is the database's own"},
      {start + "journal = './a-wal'", "is the database's own; name another file"},
      {start + "max_requests_in_flight = 0", "expected a whole number from 1 to 1048576"},
      {start + "[prices]\ninput = 0.1", "expected a decimal number in quotes"},
      {start + "[prices]\ninput = '0.00000001'", "more than 6 decimals"},
      {start + "[prices]\ninput = '0'", "cached input costs 0.025, more than other input"},
      {start + "[tiers.slow]", "there is no tier 'slow'; expected standard or fast"},
      {start + "[tiers.fast]\nmultiplier = 'x'", "tiers.fast.multiplier: 'x' is no multiplier"},
      {start + "[tiers]\nfast = 1", "'tiers.fast' must be a section"},
      {start + "[tiers.fast]\nneeds_approval = 1", "expected true or false"},
      {start + "[chat]\nsession_minutes = '30'", "chat.session_minutes: expected a whole number"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_NE(error_of(text).find(expected), std::string::npos) << text << "\n" << error_of(text);
  }
}

TEST(ClockTest, DaysAreReadAndPrinted) {
  for (const int64_t day : {0, 1, 20613, 20627, 11016}) EXPECT_EQ(parse_day(day_text(day)), day);
  EXPECT_EQ(parse_day("2024-02-29"), 19782);
  for (const char* text : {"", "2026-6-9", "2023-02-29", "1969-12-31", "2026-06-0x", "2026/06/09",
                           "-026-06-09", "2026-06-099", "2026-+6-09"}) {
    EXPECT_EQ(parse_day(text), std::nullopt) << text;
  }
}

TEST(ClockTest, LocalTimesSayTheirOffset) {
  const UtcTime time = from_ms(1'781'049'599'999);
  EXPECT_EQ(utc_text(time), "2026-06-09T23:59:59Z");
  EXPECT_EQ(Calendar{}.local_text(time), "2026-06-09 23:59 UTC");
  EXPECT_EQ(Calendar{std::chrono::hours(8)}.local_text(time), "2026-06-10 07:59 UTC+08:00");
  EXPECT_EQ(Calendar{std::chrono::minutes(-210)}.local_text(time), "2026-06-09 20:29 UTC-03:30");
  EXPECT_EQ(Calendar{std::chrono::minutes(-210)}.day_of(from_ms(0)), -1);
}

}  // namespace
}  // namespace ultraspeed::access
