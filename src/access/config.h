// How the service is offered, as a TOML file says it: [access] switches accounts on, [tiers.NAME],
// [prices], [limits] and [chat] say what they get. docs/access.md lists the keys;
// examples/ultraspeed.toml is a whole file.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "access/calendar.h"
#include "access/keys.h"
#include "access/money.h"
#include "access/secrets.h"
#include "access/tier.h"
#include "base/result.h"

namespace ultraspeed::access {

// Whole days of the configured calendar.
struct TrialWindow {
  int64_t first_day = 20613;  // 9 June 2026
  int64_t last_day = 20627;   // 23 June 2026, which belongs to it

  UtcTime begin(const Calendar& calendar) const { return calendar.begin_of(first_day); }
  UtcTime end(const Calendar& calendar) const { return calendar.begin_of(last_day + 1); }
};

struct TierOptions {
  Multiplier multiplier;
  bool needs_approval = true;  // of an application, in the trial window
  bool takes_plan_keys = true;
};

struct ChatOptions {
  uint32_t max_entries_per_day = 10;
  std::chrono::minutes session{30};
  std::chrono::minutes idle{5};
  std::chrono::minutes warning{2};  // before the end
  // Who waits and does not ask for that long has left. Browsers let hidden pages ask once a minute.
  std::chrono::seconds absence{150};
  uint32_t num_slots = 4;            // sessions at the same time
  uint32_t max_queue = 1000;         // more are refused
  uint32_t max_input_tokens = 8192;  // of a conversation that goes on and on
};

struct FloodLimits {
  uint32_t max_pending_applications = 1000;
  uint32_t applications_per_address_and_hour = 3;
  uint32_t applications_per_minute = 20;
  uint32_t failed_logins_per_address = 10;  // in 15 minutes
  uint32_t failed_logins_per_name = 30;     // in 15 minutes, from anywhere
  uint32_t logins_per_name = 60;            // in 15 minutes, right ones
  uint32_t new_keys_per_day = 50;           // of an account
};

struct AccessConfig {
  std::string database_file;
  std::string journal_file;  // the delivery journal
  Calendar calendar;
  TrialWindow window;
  std::chrono::hours session_lifetime{12};
  std::chrono::minutes session_idle{120};
  PasswordCost password_cost;
  uint32_t max_keys_per_account = 10;
  FloodLimits floods;

  std::string currency = "CNY";
  Prices prices{{25'000'000'000}, {3'000'000'000'000}, {6'000'000'000'000}};
  std::array<TierOptions, kNumTiers> tiers{{{{1000}, true, true}, {{3000}, true, false}}};
  KeyLimits limits;  // of keys that accounts make themselves
  uint32_t max_requests_in_flight = 4096;
  ChatOptions chat;

  const TierOptions& tier(Tier which) const { return tiers[static_cast<size_t>(which)]; }
};

// Whether [name] is one of those that parse_config() reads.
bool is_section(std::string_view name);

// nullopt: without [access] there are no accounts and everything is open. `file` names the file in
// errors, and its folder is where relative paths in it begin. Keys outside the sections above are
// others' (serve's flags). Errors: kInvalidArgument, with file and line.
Result<std::optional<AccessConfig>> parse_config(const std::string& file, std::string_view text);

}  // namespace ultraspeed::access
