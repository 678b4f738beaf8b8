// API keys and applications: what is made, what is stored, whose it is, and floods.
#include "access/keys.h"

#include <gtest/gtest.h>

#include "access/audit.h"
#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

class KeysTest : public testing::Test, protected AccessFixture {};

TEST_F(KeysTest, AKeyIsShownOnceAndFoundByItself) {
  add_user("ann");
  const NewKey made = value_of(keys.create({"ann", "laptop"}, "ann", {10}));
  EXPECT_TRUE(made.secret.starts_with("us-" + made.key.public_part + "-"));
  EXPECT_EQ(made.secret.size(), 3U + 12 + 1 + 43);
  const Key found = value_of(keys.find(made.secret));
  EXPECT_EQ(found.id, made.key.id);
  EXPECT_EQ(found.account.name, "ann");
  EXPECT_EQ(found.name, "laptop");
  EXPECT_EQ(value_of(read_audit(*database, 1)).front().subject, made.key.public_part);
}

TEST_F(KeysTest, TheDatabaseHasNoKey) {
  const std::string secret = add_key("admin");
  const std::string stored =
      value_of(database->read([](SQLite::Database& sql) -> Result<std::string> {
        return sql.execAndGet("SELECT secret_digest FROM keys").getString();
      }));
  EXPECT_EQ(stored, digest(secret));
  EXPECT_EQ(stored.find(secret.substr(16)), std::string::npos);
}

TEST_F(KeysTest, WrongOnesAreNotFound) {
  const std::string secret = add_key("admin");
  std::string flipped = secret;
  flipped.back() = flipped.back() == 'A' ? 'B' : 'A';
  for (const std::string& wrong :
       {flipped, secret + "x", secret.substr(0, secret.size() - 1), secret.substr(0, 15),
        std::string(), std::string("us-"), "tp-" + secret.substr(3), std::string(100'000, 'x'),
        std::string("us-' OR 1=1 --")}) {
    EXPECT_EQ(outcome(keys.find(wrong)), "401 invalid_api_key") << wrong.substr(0, 80);
  }
}

TEST_F(KeysTest, ARevokedKeyStaysRevoked) {
  add_user("ann");
  add_user("bob");
  const Key key = value_of(keys.find(add_key("ann")));
  const int64_t bob = value_of(applications.list({}, 0, 10)).back().account.id;
  EXPECT_EQ(outcome(keys.revoke(key.public_part, bob, "bob")), "404 not_found");
  const Key revoked = value_of(keys.revoke(key.public_part, key.account.id, "ann"));
  clock.advance(std::chrono::hours(1));
  const Key again = value_of(keys.revoke(key.public_part, std::nullopt, "admin"));
  EXPECT_EQ(revoked.revoked, again.revoked);
}

TEST_F(KeysTest, HasWhatItWasMadeWith) {
  KeySpec spec;
  spec.kind = KeyKind::kTokenPlan;
  spec.limits = {1, 2, 3, Money{4}, 5};
  spec.expires = clock.now() + std::chrono::hours(1);
  const std::string secret = add_key("admin", spec);
  EXPECT_TRUE(secret.starts_with("tp-"));
  const Key key = value_of(keys.find(secret));
  EXPECT_EQ(key.kind, KeyKind::kTokenPlan);
  EXPECT_EQ(key.limits.requests_per_minute, 1U);
  EXPECT_EQ(key.limits.tokens_per_minute, 2U);
  EXPECT_EQ(key.limits.max_concurrent, 3U);
  EXPECT_EQ(key.limits.budget, Money{4});
  EXPECT_EQ(key.limits.allowance_tokens, 5);
  EXPECT_EQ(key.expires, spec.expires);
  EXPECT_EQ(key.spent, Money{0});
}

TEST_F(KeysTest, RefusesWhatMakesNoSense) {
  add_user("ann");
  const auto made = [&](const KeySpec& spec) {
    return outcome(keys.create(spec, "admin", {2, 4}));
  };
  EXPECT_EQ(made({"nobody", "x"}), "404 not_found");
  EXPECT_EQ(made({"ann", ""}), "400 invalid_request");
  EXPECT_EQ(made({"ann", "a\nb"}), "400 invalid_request");
  EXPECT_EQ(made({"ann", "x", KeyKind::kTokenPlan}), "400 invalid_request");  // no allowance
  EXPECT_EQ(made({"ann", "x", KeyKind::kPayAsYouGo, kScopeMetrics}), "400 invalid_request");
  EXPECT_EQ(made({"ann", "x", KeyKind::kPayAsYouGo, 0}), "400 invalid_request");
  EXPECT_EQ(made({"admin", "x", KeyKind::kPayAsYouGo, kScopeMetrics}), "200");
  EXPECT_EQ(made({"ann", "1"}), "200");
  EXPECT_EQ(made({"ann", "2"}), "200");
  EXPECT_EQ(made({"ann", "3"}), "409 too_many_keys");
  const Key first =
      value_of(keys.list(value_of(applications.list({}, 0, 1))[0].account.id, 100))[0];
  value_of(keys.revoke(first.public_part, std::nullopt, "admin"));
  EXPECT_EQ(made({"ann", "3"}), "200");
  EXPECT_EQ(value_of(keys.list(std::nullopt, 100)).size(), 4U);
  // Making and revoking goes on for so long.
  const auto revoke_all = [&] {
    for (const Key& key : value_of(keys.list(first.account.id, 100))) {
      value_of(keys.revoke(key.public_part, std::nullopt, "admin"));
    }
  };
  revoke_all();
  EXPECT_EQ(made({"ann", "4"}), "200");
  revoke_all();
  EXPECT_EQ(made({"ann", "5"}), "429 too_many_new_keys");
  clock.advance(std::chrono::hours(24));
  EXPECT_EQ(made({"ann", "5"}), "200");
}

class ApplicationsTest : public testing::Test, protected AccessFixture {};

TEST_F(ApplicationsTest, AreSubmittedAndDecided) {
  const Application made = add_user("Ann", std::nullopt);
  EXPECT_EQ(made.account.name, "ann");
  EXPECT_EQ(outcome(accounts.log_in("ann", kPassword, "x", "")), "200");
  EXPECT_EQ(value_of(applications.list(ApplicationState::kPending, 0, 10)).size(), 1U);
  clock.advance(std::chrono::hours(1));
  value_of(applications.decide(made.id, ApplicationState::kDeclined, "admin", "not now"));
  const Application approved =
      value_of(applications.decide(made.id, ApplicationState::kApproved, "admin", ""));
  EXPECT_EQ(approved.decided, clock.now());
  EXPECT_EQ(value_of(applications.find(made.account.id))->decided_by, "admin");
  EXPECT_TRUE(value_of(applications.list(ApplicationState::kPending, 0, 10)).empty());
  EXPECT_EQ(value_of(applications.list(ApplicationState::kApproved, made.id, 10)).size(), 0U);
  EXPECT_EQ(outcome(applications.decide(99, ApplicationState::kApproved, "admin", "")),
            "404 not_found");
  const std::vector<AuditEntry> audit = value_of(read_audit(*database, 2));
  EXPECT_EQ(audit[0].action, "approve application");
  EXPECT_EQ(audit[1].action, "decline application");
  EXPECT_EQ(audit[1].detail, "not now");
}

TEST_F(ApplicationsTest, TextStaysAsItIs) {
  const std::string text = "<script>alert(1)</script>\n'; DROP TABLE accounts; --\n\xE4\xBD\xA0";
  const Application made = value_of(applications.submit({"ann", kPassword, text, "x"}));
  EXPECT_EQ(value_of(applications.find(made.account.id))->statement, text);
}

TEST_F(ApplicationsTest, TextIsCountedInCharacters) {
  const auto submit = [&](const char* name, const std::string& text) {
    const auto made = applications.submit({name, kPassword, text, name});
    return made ? "" : made.error().message;
  };
  std::string text;
  for (int i = 0; i < 3999; ++i) text += "\xF0\x9F\x98\x80";
  EXPECT_EQ(submit("ann", text + "\t"), "");
  EXPECT_EQ(submit("bob", text + "\t\n"),
            "the statement has 4001 characters; expected at most 4000");
  EXPECT_EQ(submit("bob", "a\rb"),
            "the statement has a control character; expected none but line feeds and tabs");
}

TEST_F(ApplicationsTest, RefusesWhatIsWrong) {
  const auto submitted = [&](const char* name, const char* password, const std::string& text) {
    return outcome(applications.submit({name, password, text, name}));
  };
  EXPECT_EQ(submitted("a b", kPassword, ""), "400 invalid_request");
  for (const char* text : {"\x1b[2J", "\xC2\x9B", "\xE2\x80\xAE", "\xE2\x81\xA6", "\x7f"}) {
    EXPECT_EQ(submitted("name", kPassword, text), "400 invalid_request");
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(submitted("ann", "short", ""), "400 invalid_request");
  EXPECT_EQ(submitted("ann", kPassword, std::string(4001, 'x')), "400 invalid_request");
  EXPECT_EQ(submitted("ann", kPassword, ""), "200");  // what was refused was no application
  EXPECT_EQ(submitted("ANN", kPassword, ""), "409 name_taken");
  EXPECT_EQ(submitted("admin", kPassword, ""), "409 name_taken");
}

TEST_F(ApplicationsTest, AnAddressMayApplyThreeTimesAnHour) {
  const auto submit = [&](const std::string& name, const std::string& address) {
    return outcome(applications.submit({name, kPassword, "", address}));
  };
  for (const char* name : {"ann1", "ann2", "ann3"}) EXPECT_EQ(submit(name, "10.0.0.1"), "200");
  EXPECT_EQ(submit("ann4", "10.0.0.1"), "429 too_many_applications");
  EXPECT_EQ(submit("ann4", "10.0.0.2"), "200");
  clock.advance(std::chrono::hours(1));
  EXPECT_EQ(submit("ann5", "10.0.0.1"), "200");
  for (const char* name : {"bob1", "bob2", "bob3"}) {
    EXPECT_EQ(submit(name, std::string("2001:db8::") + name[3]), "200");
  }
  EXPECT_EQ(submit("bob4", "2001:db8::4"), "429 too_many_applications");
  EXPECT_EQ(submit("bob4", "2001:db8:0:1::4"), "200");
}

TEST(ApplicationFloodTest, AllAddressesTogetherAreLimited) {
  AccessFixture fixture;
  fixture.config.floods.max_pending_applications = 5;
  const auto submit = [&](int i) {
    return outcome(fixture.applications.submit(
        {"flood" + std::to_string(i), kPassword, "", std::to_string(i)}));
  };
  for (int i = 0; i < 5; ++i) EXPECT_EQ(submit(i), "200");
  EXPECT_EQ(submit(5), "429 too_many_applications");
  value_of(fixture.applications.decide(1, ApplicationState::kDeclined, "admin", ""));
  EXPECT_EQ(submit(6), "200");

  AccessConfig slow = fixture.config;
  slow.floods.max_pending_applications = 1000;
  slow.floods.applications_per_minute = 2;
  Applications throttled(*fixture.database, fixture.clock, slow);
  for (const char* name : {"eve1", "eve2"}) {
    EXPECT_EQ(outcome(throttled.submit({name, kPassword, "", name})), "200");
  }
  EXPECT_EQ(outcome(throttled.submit({"eve3", kPassword, "", "eve3"})),
            "429 too_many_applications");
}

TEST_F(ApplicationsTest, TheWindowsEndEndsThem) {
  clock.set(config.window.end(config.calendar) - milliseconds(1));
  EXPECT_EQ(outcome(applications.submit({"ann", kPassword, "", "x"})), "200");
  clock.advance(milliseconds(1));
  const auto late = applications.submit({"bob", kPassword, "", "x"});
  EXPECT_EQ(outcome(late), "403 trial_ended");
  EXPECT_NE(late.error().message.find("2026-06-23"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::access
