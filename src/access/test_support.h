// What the tests of this module share: a clock that they turn, a configuration whose passwords cost
// nothing, and the parts of a service that is not running.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "access/accounts.h"
#include "access/applications.h"
#include "access/config.h"
#include "access/database.h"
#include "access/gate.h"
#include "access/keys.h"
#include "base/check.h"
#include "support/temporary_directory.h"

namespace ultraspeed::access {

class FakeClock final : public Clock {
 public:
  UtcTime now() const override { return from_ms(now_ms_); }
  void set(UtcTime time) { now_ms_ = to_ms(time); }
  void advance(milliseconds time) { now_ms_ += time.count(); }

 private:
  std::atomic<int64_t> now_ms_{to_ms(UtcTime(std::chrono::days(20620)))};  // 16 June 2026
};

inline constexpr const char* kPassword = "correct horse battery";

inline AccessConfig test_config(const std::string& folder) {
  AccessConfig config;
  config.database_file = folder + "/access.db";
  config.journal_file = folder + "/access.db.journal";
  config.password_cost = {1, 8192};
  config.max_requests_in_flight = 8;
  return config;
}

// The value, or the test process ends with the message.
template <class T>
T value_of(Result<T> result) {
  US_CHECK(result.has_value(), "{}", result.error().message);
  return *std::move(result);
}
template <class T>
T value_of(Answer<T> answer) {
  US_CHECK(answer.has_value(), "{} {}", answer.error().code, answer.error().message);
  return *std::move(answer);
}

// "200", or "STATUS CODE" of a refusal.
template <class T>
std::string outcome(const Answer<T>& answer) {
  if (answer) return "200";
  return std::to_string(answer.error().status) + " " + answer.error().code;
}

// All parts, with accounts "admin" (an administrator) and, by add_user(), others.
struct AccessFixture {
  explicit AccessFixture(AccessConfig used) : config(std::move(used)) {
    value_of(accounts.create_administrator("admin", kPassword));
  }
  AccessFixture() : AccessFixture(AccessConfig()) {}

  // nullopt: without an answer.
  Application add_user(const std::string& name,
                       std::optional<ApplicationState> state = ApplicationState::kApproved) {
    const Application application =
        value_of(applications.submit({name, kPassword, "to try it", name}));
    return state ? value_of(applications.decide(application.id, *state, "admin", "")) : application;
  }
  std::string add_key(const std::string& account, KeySpec spec = {}) {
    spec.account = account;
    if (spec.name.empty()) spec.name = "test";
    return value_of(keys.create(spec, "admin", {100})).secret;
  }

  test::TemporaryDirectory folder;
  FakeClock clock;
  AccessConfig config;

 private:
  AccessConfig in_folder() {
    const AccessConfig defaults = test_config(folder.path());
    config.database_file = defaults.database_file;
    config.journal_file = defaults.journal_file;
    config.password_cost = defaults.password_cost;
    config.max_requests_in_flight = defaults.max_requests_in_flight;
    config.floods.applications_per_minute = 1000;
    return config;
  }

 public:
  std::unique_ptr<Database> database = value_of(Database::open(in_folder().database_file));
  Accounts accounts{
      *database,
      clock,
      {std::chrono::hours(12), std::chrono::minutes(120), config.password_cost, 10, 30}};
  Applications applications{*database, clock, config};
  Keys keys{*database, clock};
  Gate gate{keys, accounts, applications, clock, config};
};

}  // namespace ultraspeed::access
