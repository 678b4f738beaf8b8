// The access matrix: every class of routes, on both tiers, by everybody who may come. Each row is
// what a visitor gets; whoever changes who may do what changes a row here.
#include "access/gate.h"

#include <gtest/gtest.h>

#include <map>

#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

struct Route {
  const char* name;
  RouteClass route;
  Tier tier;
};

constexpr Route kRoutes[] = {
    {"public", RouteClass::kPublic, Tier::kStandard},
    {"models", RouteClass::kModels, Tier::kStandard},
    {"standard", RouteClass::kGenerate, Tier::kStandard},
    {"fast", RouteClass::kGenerate, Tier::kFast},
    {"chat", RouteClass::kChat, Tier::kFast},
    {"account", RouteClass::kAccount, Tier::kStandard},
    {"administration", RouteClass::kAdministration, Tier::kStandard},
    {"metrics", RouteClass::kMetrics, Tier::kStandard},
};

constexpr const char* kMissing = "401 missing_credential";

// Visitors with keys and with sessions of the same accounts.
class GateTest : public testing::Test, protected AccessFixture {
 protected:
  GateTest() {
    clock.set(config.window.begin(config.calendar) + std::chrono::hours(30));
    add_user("approved");
    add_user("pending", std::nullopt);
    add_user("declined", ApplicationState::kDeclined);
    add_user("early");
    KeySpec plan;
    plan.kind = KeyKind::kTokenPlan;
    plan.limits.allowance_tokens = 1000;
    KeySpec expiring;
    expiring.expires = clock.now() + std::chrono::hours(1);
    KeySpec metrics;
    metrics.scopes = kScopeMetrics;
    secrets = {{"approved", add_key("approved")},          {"pending", add_key("pending")},
               {"declined", add_key("declined")},          {"administrator", add_key("admin")},
               {"plan", add_key("approved", plan)},        {"revoked", add_key("approved")},
               {"expired", add_key("approved", expiring)}, {"metrics", add_key("admin", metrics)},
               {"wrong", "us-0123456789ab-wrong"},         {"none", ""}};
    value_of(keys.revoke(value_of(keys.find(secrets["revoked"])).public_part, {}, "admin"));
    clock.advance(std::chrono::hours(1));
    for (const char* name : {"approved", "pending", "declined"}) sessions[name] = log_in(name);
    sessions["administrator"] = log_in("admin");
    sessions["wrong"] = random_text(32);
    sessions["ended"] = log_in("approved");
    EXPECT_TRUE(accounts.log_out(sessions["ended"]));
  }

  std::string log_in(const std::string& name) {
    return value_of(accounts.log_in(name, kPassword, "x", "")).session_token;
  }

  std::string by_key(const std::string& visitor, const Route& route) {
    return outcome(gate.decide({route.route, {secrets.at(visitor), "", ""}, route.tier, true}));
  }

  std::string by_session(const std::string& visitor, const Route& route) {
    const std::string csrf = csrf_token_of(sessions.at(visitor));
    return outcome(gate.decide({route.route, {"", sessions.at(visitor), csrf}, route.tier, true}));
  }

  std::map<std::string, std::string> secrets, sessions;
};

using Row = std::pair<const char*, std::array<const char*, std::size(kRoutes)>>;

TEST_F(GateTest, KeysOpenWhatTheyShould) {
  const char* const invalid = "401 invalid_api_key";
  const char* const revoked = "401 key_revoked";
  const char* const expired = "401 key_expired";
  const char* const pending = "403 application_pending";
  const char* const declined = "403 application_declined";
  const char* const plan = "403 plan_key_not_on_tier";
  const char* const scope = "403 scope";
  // public, models, standard, fast, chat, account, administration, metrics
  const std::vector<Row> matrix = {
      {"none", {"200", kMissing, kMissing, kMissing, kMissing, kMissing, kMissing, kMissing}},
      {"wrong", {"200", invalid, invalid, invalid, kMissing, kMissing, kMissing, invalid}},
      {"revoked", {"200", revoked, revoked, revoked, kMissing, kMissing, kMissing, revoked}},
      {"expired", {"200", expired, expired, expired, kMissing, kMissing, kMissing, expired}},
      {"plan", {"200", "200", "200", plan, kMissing, kMissing, kMissing, scope}},
      {"pending", {"200", "200", pending, pending, kMissing, kMissing, kMissing, scope}},
      {"declined", {"200", "200", declined, declined, kMissing, kMissing, kMissing, scope}},
      {"approved", {"200", "200", "200", "200", kMissing, kMissing, kMissing, scope}},
      {"administrator", {"200", "200", "200", "200", kMissing, kMissing, kMissing, scope}},
      {"metrics", {"200", scope, scope, scope, kMissing, kMissing, kMissing, "200"}},
  };
  for (const auto& [visitor, expected] : matrix) {
    for (size_t i = 0; i < std::size(kRoutes); ++i) {
      EXPECT_EQ(by_key(visitor, kRoutes[i]), expected[i]) << visitor << " " << kRoutes[i].name;
    }
  }
}

TEST_F(GateTest, SessionsOpenWhatTheyShould) {
  const char* const ended = "401 session_ended";
  const char* const pending = "403 application_pending";
  const char* const declined = "403 application_declined";
  const char* const admins = "403 administrators_only";
  const std::vector<Row> matrix = {
      {"wrong", {"200", kMissing, kMissing, kMissing, ended, ended, ended, ended}},
      {"ended", {"200", kMissing, kMissing, kMissing, ended, ended, ended, ended}},
      {"pending", {"200", kMissing, kMissing, kMissing, pending, "200", admins, admins}},
      {"declined", {"200", kMissing, kMissing, kMissing, declined, "200", admins, admins}},
      {"approved", {"200", kMissing, kMissing, kMissing, "200", "200", admins, admins}},
      {"administrator", {"200", kMissing, kMissing, kMissing, "200", "200", "200", "200"}},
  };
  for (const auto& [visitor, expected] : matrix) {
    for (size_t i = 0; i < std::size(kRoutes); ++i) {
      EXPECT_EQ(by_session(visitor, kRoutes[i]), expected[i]) << visitor << " " << kRoutes[i].name;
    }
  }
}

TEST_F(GateTest, SaysWhoItIs) {
  const Identity identity =
      value_of(gate.decide({RouteClass::kGenerate, {secrets["approved"], "", ""}, Tier::kFast}));
  EXPECT_EQ(identity.account.name, "approved");
  EXPECT_EQ(identity.key, value_of(keys.find(secrets["approved"])).public_part);
  EXPECT_EQ(identity.limits.requests_per_minute, 60U);
  const Identity user = value_of(
      gate.decide({RouteClass::kChat, {"", sessions["approved"], ""}, Tier::kFast, false}));
  EXPECT_EQ(user.account.name, "approved");
  EXPECT_EQ(user.key_id, 0);
  EXPECT_EQ(user.limits.max_concurrent, 0U);  // a chat bounds its answers itself
  EXPECT_EQ(value_of(gate.decide({})).account.id, 0);
}

TEST_F(GateTest, AKeyDoesNotCoverForAWrongOne) {
  // On a route that takes keys, the key is what counts.
  const Credential both{"us-0123456789ab-wrong", sessions["administrator"], ""};
  EXPECT_EQ(outcome(gate.decide({RouteClass::kMetrics, both})), "401 invalid_api_key");
  EXPECT_EQ(outcome(gate.decide({RouteClass::kGenerate, both})), "401 invalid_api_key");
}

TEST_F(GateTest, WhatHasAnEffectNeedsThePagesToken) {
  const std::string& session = sessions["administrator"];
  const auto by = [&](const std::string& csrf, bool has_effect) {
    return outcome(gate.decide(
        {RouteClass::kAdministration, {"", session, csrf}, Tier::kStandard, has_effect}));
  };
  EXPECT_EQ(by("", false), "200");
  EXPECT_EQ(by("", true), "403 csrf");
  EXPECT_EQ(by(csrf_token_of(sessions["approved"]), true), "403 csrf");
  EXPECT_EQ(by(csrf_token_of(session) + "x", true), "403 csrf");
  EXPECT_EQ(by(csrf_token_of(session), true), "200");
}

TEST_F(GateTest, TheWindowHasEdges) {
  const auto fast = [&](const char* visitor) {
    return outcome(gate.decide({RouteClass::kGenerate, {secrets[visitor], "", ""}, Tier::kFast}));
  };
  const UtcTime begin = config.window.begin(config.calendar);
  const UtcTime end = config.window.end(config.calendar);
  EXPECT_EQ(utc_text(begin), "2026-06-09T00:00:00Z");
  EXPECT_EQ(utc_text(end), "2026-06-24T00:00:00Z");
  clock.set(begin - milliseconds(1));
  EXPECT_EQ(fast("approved"), "403 trial_not_begun");
  EXPECT_EQ(fast("pending"), "403 application_pending");
  EXPECT_EQ(fast("administrator"), "200");
  const auto early =
      gate.decide({RouteClass::kGenerate, {secrets["approved"], "", ""}, Tier::kFast});
  EXPECT_EQ(early.error().retry_after_s, 1U);
  EXPECT_NE(early.error().message.find("2026-06-09 00:00 UTC"), std::string::npos);
  clock.set(begin);
  EXPECT_EQ(fast("approved"), "200");
  clock.set(end - milliseconds(1));
  EXPECT_EQ(fast("approved"), "200");
  clock.set(end);
  for (const char* visitor : {"approved", "pending", "declined"}) {
    EXPECT_EQ(fast(visitor), "403 trial_ended");
  }
  EXPECT_EQ(fast("administrator"), "200");
}

TEST(GateCalendarTest, TheWindowIsInLocalDays) {
  for (const int offset : {-11, 0, 8, 14}) {
    AccessConfig config;
    config.calendar = Calendar(std::chrono::hours(offset));
    AccessFixture fixture(config);
    fixture.add_user("ann");
    const std::string secret = fixture.add_key("ann");
    const auto fast = [&] {
      return outcome(fixture.gate.decide({RouteClass::kGenerate, {secret, "", ""}, Tier::kFast}));
    };
    const UtcTime begin = UtcTime(std::chrono::days(20613)) - std::chrono::hours(offset);
    fixture.clock.set(begin - milliseconds(1));
    EXPECT_EQ(fast(), "403 trial_not_begun") << offset;
    fixture.clock.set(begin);
    EXPECT_EQ(fast(), "200") << offset;
    fixture.clock.set(begin + std::chrono::days(15));
    EXPECT_EQ(fast(), "403 trial_ended") << offset;
  }
}

TEST(GateCalendarTest, TheWindowEndsWhereItsLastDayIsShort) {
  AccessConfig config;
  config.calendar = value_of(Calendar::of_zone("Europe/Berlin"));
  config.window = {*parse_day("2026-03-29"), *parse_day("2026-03-29")};
  const UtcTime begin = config.window.begin(config.calendar);
  AccessFixture fixture(config);
  fixture.clock.set(begin);
  fixture.add_user("ann");
  const std::string secret = fixture.add_key("ann");
  const auto decide = [&](UtcTime time) {
    fixture.clock.set(time);
    return fixture.gate.decide({RouteClass::kGenerate, {secret, "", ""}, Tier::kFast});
  };
  const auto early = decide(begin - milliseconds(1));
  EXPECT_EQ(outcome(early), "403 trial_not_begun");
  EXPECT_NE(early.error().message.find("2026-03-29 00:00 UTC+01:00"), std::string::npos)
      << early.error().message;
  EXPECT_EQ(outcome(decide(begin)), "200");
  EXPECT_EQ(outcome(decide(begin + std::chrono::hours(23) - milliseconds(1))), "200");
  const auto late = decide(begin + std::chrono::hours(23));
  EXPECT_EQ(outcome(late), "403 trial_ended");
  EXPECT_NE(late.error().message.find("2026-03-30 00:00 UTC+02:00"), std::string::npos)
      << late.error().message;
}

TEST(GateConfigTest, ATierMayBeOpenToAllKeys) {
  AccessConfig config;
  config.tiers[0].needs_approval = false;
  AccessFixture fixture(config);
  fixture.add_user("ann", std::nullopt);
  const std::string secret = fixture.add_key("ann");
  const auto by = [&](Tier tier) {
    return outcome(fixture.gate.decide({RouteClass::kGenerate, {secret, "", ""}, tier}));
  };
  EXPECT_EQ(by(Tier::kStandard), "200");
  EXPECT_EQ(by(Tier::kFast), "403 application_pending");
  fixture.clock.set(fixture.config.window.end(fixture.config.calendar));
  EXPECT_EQ(by(Tier::kStandard), "200");
}

}  // namespace
}  // namespace ultraspeed::access
