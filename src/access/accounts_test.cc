// Accounts: the first administrator, logging in, sessions, and what attackers try.
#include "access/accounts.h"

#include <gtest/gtest.h>

#include "access/audit.h"
#include "access/test_support.h"

namespace ultraspeed::access {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

class AccountsTest : public testing::Test, protected AccessFixture {
 protected:
  Answer<Login> log_in(const std::string& password, const std::string& address = "10.0.0.1",
                       std::string_view presented = "") {
    return accounts.log_in("admin", password, address, presented);
  }
};

TEST_F(AccountsTest, ThereIsOneFirstAdministrator) {
  const auto second = accounts.create_administrator("boss", kPassword);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("there is an administrator, 'admin'"), std::string::npos);
}

TEST_F(AccountsTest, PasswordsAreOfArgon2idAndNotStored) {
  const std::string hash = value_of(hash_password(kPassword, {1, 8192}));
  EXPECT_TRUE(hash.starts_with("$argon2id$")) << hash;
  EXPECT_NE(hash, value_of(hash_password(kPassword, {1, 8192})));  // salted
  EXPECT_TRUE(is_password_of(kPassword, hash));
  EXPECT_FALSE(is_password_of("correct horse batters", hash));
  EXPECT_FALSE(is_password_of("", ""));
  EXPECT_FALSE(hash_password("short", {1, 8192}).has_value());
  EXPECT_FALSE(hash_password(std::string(257, 'x'), {1, 8192}).has_value());
}

TEST_F(AccountsTest, NamesNeedNoEscaping) {
  EXPECT_EQ(normal_name("Ann.B+c@example.org").value_or(""), "ann.b+c@example.org");
  for (const char* name : {"ab", "", "<script>", "a b c", "=1+1", "-rf", "+ann", "@ann", "a\"b'c",
                           "../../x", "a\nb", "\xC3\xA4nn"}) {
    EXPECT_FALSE(normal_name(name).has_value()) << name;
  }
  EXPECT_FALSE(normal_name(std::string(65, 'a')).has_value());
}

TEST_F(AccountsTest, LoggingInGivesASession) {
  const Login login = value_of(log_in(kPassword));
  EXPECT_TRUE(login.account.is_administrator);
  EXPECT_EQ(value_of(accounts.find_session(login.session_token)).name, "admin");
  EXPECT_EQ(login.csrf_token, csrf_token_of(login.session_token));
  EXPECT_EQ(outcome(accounts.find_session(login.session_token + "x")), "401 session_ended");
  EXPECT_EQ(outcome(accounts.find_session("")), "401 session_ended");
  ASSERT_TRUE(accounts.log_out(login.session_token));
  EXPECT_EQ(outcome(accounts.find_session(login.session_token)), "401 session_ended");
}

TEST_F(AccountsTest, TheDatabaseHasNoSecret) {
  const Login login = value_of(log_in(kPassword));
  const std::string stored =
      value_of(database->read([](SQLite::Database& sql) -> Result<std::string> {
        return sql.execAndGet("SELECT token_digest FROM sessions").getString();
      }));
  EXPECT_EQ(stored, digest(login.session_token));
  EXPECT_EQ(stored.find(login.session_token), std::string::npos);
}

TEST_F(AccountsTest, WrongNamesAndPasswordsLookTheSame) {
  const auto wrong_password = log_in("wrong password");
  const auto wrong_name = accounts.log_in("nobody", kPassword, "10.0.0.1", "");
  const auto no_name = accounts.log_in("<script>", kPassword, "10.0.0.1", "");
  EXPECT_EQ(outcome(wrong_password), "401 invalid_login");
  EXPECT_EQ(outcome(wrong_name), "401 invalid_login");
  EXPECT_EQ(outcome(no_name), "401 invalid_login");
  EXPECT_EQ(wrong_password.error().message, wrong_name.error().message);
}

// A token that somebody planted before is not the session, and one that was valid is over.
TEST_F(AccountsTest, LoggingInMakesANewSession) {
  const Login planted = value_of(log_in(kPassword));
  const Login login = value_of(log_in(kPassword, "10.0.0.1", planted.session_token));
  EXPECT_NE(login.session_token, planted.session_token);
  EXPECT_EQ(outcome(accounts.find_session(planted.session_token)), "401 session_ended");
  const Login other = value_of(log_in(kPassword, "10.0.0.1", "of my choice"));
  EXPECT_NE(other.session_token, "of my choice");
  EXPECT_EQ(outcome(accounts.find_session("of my choice")), "401 session_ended");
}

TEST_F(AccountsTest, SessionsEndByAgeAndBySilence) {
  const Login login = value_of(log_in(kPassword));
  for (int i = 0; i < 7; ++i) {
    clock.advance(minutes(100));
    ASSERT_EQ(outcome(accounts.find_session(login.session_token)), "200") << i;
  }
  clock.advance(minutes(20) - milliseconds(1));
  EXPECT_EQ(outcome(accounts.find_session(login.session_token)), "200");
  clock.advance(milliseconds(1));  // 12 hours
  EXPECT_EQ(outcome(accounts.find_session(login.session_token)), "401 session_ended");

  const Login silent = value_of(log_in(kPassword));
  clock.advance(minutes(120));
  EXPECT_EQ(outcome(accounts.find_session(silent.session_token)), "401 session_ended");
}

TEST_F(AccountsTest, AnAddressThatGuessesHasToWait) {
  for (int i = 0; i < 10; ++i) EXPECT_EQ(outcome(log_in("wrong password")), "401 invalid_login");
  const auto throttled = log_in(kPassword);
  EXPECT_EQ(outcome(throttled), "429 too_many_logins");
  EXPECT_EQ(throttled.error().retry_after_s, 900U);
  EXPECT_EQ(outcome(log_in(kPassword, "10.0.0.2")), "200");
  clock.advance(minutes(15));
  EXPECT_EQ(outcome(log_in(kPassword)), "200");
}

TEST_F(AccountsTest, ANetworkOfIpv6IsOneAddress) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(outcome(log_in("wrong password", "2001:db8::" + std::to_string(i))),
              "401 invalid_login");
  }
  EXPECT_EQ(outcome(log_in(kPassword, "2001:db8:0:0:1:2:3:4")), "429 too_many_logins");
  EXPECT_EQ(outcome(log_in(kPassword, "2001:db8:0:1::1")), "200");
}

TEST_F(AccountsTest, ANameThatManyGuessHasToWait) {
  for (int i = 0; i < 30; ++i) {
    EXPECT_EQ(outcome(log_in("wrong password", std::to_string(i))), "401 invalid_login");
  }
  EXPECT_EQ(outcome(log_in(kPassword, "10.0.0.9")), "429 too_many_logins");
}

// Else who has an account could guess at others' without end.
TEST_F(AccountsTest, ARightPasswordForgetsTheNamesFailuresAndNotTheAddresses) {
  for (int i = 0; i < 9; ++i) log_in("wrong password");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(outcome(log_in(kPassword)), "200");
  EXPECT_EQ(outcome(log_in("wrong password")), "401 invalid_login");
  EXPECT_EQ(outcome(log_in(kPassword)), "429 too_many_logins");
  for (int i = 0; i < 28; ++i) log_in("wrong password", std::to_string(i));
  EXPECT_EQ(outcome(log_in(kPassword, "10.0.0.2")), "200");
  for (int i = 0; i < 29; ++i) log_in("wrong password", std::to_string(100 + i));
  EXPECT_EQ(outcome(log_in(kPassword, "10.0.0.3")), "200");
}

TEST_F(AccountsTest, RightPasswordsAreLimitedToo) {
  for (int i = 0; i < 60; ++i) ASSERT_EQ(outcome(log_in(kPassword, std::to_string(i))), "200") << i;
  EXPECT_EQ(outcome(log_in(kPassword, "x")), "429 too_many_logins");
  clock.advance(minutes(15));
  EXPECT_EQ(outcome(log_in(kPassword, "x")), "200");
}

TEST_F(AccountsTest, ThatASessionWasUsedIsWrittenLater) {
  const Login login = value_of(log_in(kPassword));
  const auto used_ms = [&] {
    return value_of(database->read([](SQLite::Database& sql) -> Result<int64_t> {
      return sql.execAndGet("SELECT used_ms FROM sessions").getInt64();
    }));
  };
  const int64_t at_login = used_ms();
  clock.advance(minutes(100));
  EXPECT_EQ(outcome(accounts.find_session(login.session_token)), "200");
  EXPECT_EQ(used_ms(), at_login);
  clock.advance(minutes(100));  // it counts before it is written
  EXPECT_EQ(outcome(accounts.find_session(login.session_token)), "200");
  ASSERT_TRUE(accounts.save_uses());
  EXPECT_EQ(used_ms(), to_ms(clock.now()));
  clock.advance(minutes(100));
  EXPECT_EQ(outcome(accounts.find_session(login.session_token)), "200");
}

TEST_F(AccountsTest, ResettingAPasswordEndsSessions) {
  const Login login = value_of(log_in(kPassword));
  ASSERT_TRUE(accounts.reset_password("ADMIN", "another password", "command line"));
  EXPECT_EQ(outcome(accounts.find_session(login.session_token)), "401 session_ended");
  EXPECT_EQ(outcome(log_in(kPassword)), "401 invalid_login");
  EXPECT_EQ(outcome(log_in("another password")), "200");
  EXPECT_EQ(accounts.reset_password("nobody", kPassword, "x").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(value_of(read_audit(*database, 1)).front().action, "reset password");
}

TEST(ThrottleTest, ItsSubjectsAreNetworks) {
  const std::pair<const char*, const char*> cases[] = {
      {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
      {"2001:DB8:1:2::9", "2001:db8:1:2::/64"},
      {"2001:db8:1:3::9", "2001:db8:1:3::/64"},
      {"fe80::1%eth0", "fe80::/64"},
      {"::1", "::/64"},
      {"::ffff:1.2.3.4", "1.2.3.4"},
      {"::ffff:0102:0304", "1.2.3.4"},
      {"1.2.3.4", "1.2.3.4"},
      {"unix", "unix"},
      {"", ""},
      {"2001:db8::1::2", "2001:db8::1::2"},
  };
  for (const auto& [address, subject] : cases) EXPECT_EQ(throttle_subject(address), subject);
}

TEST(ThrottleTest, CountsWithinItsSpan) {
  Throttle throttle({3, std::chrono::seconds(60)});
  UtcTime now = from_ms(1'000'000);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(throttle.wait("a", now).count(), 0);
    throttle.record("a", now);
    now += std::chrono::seconds(10);
  }
  EXPECT_EQ(throttle.wait("a", now).count(), 30);
  EXPECT_EQ(throttle.wait("b", now).count(), 0);
  EXPECT_EQ(throttle.wait("a", now + std::chrono::seconds(30)).count(), 0);
}

TEST(ThrottleTest, OneEventCanBeTakenBack) {
  Throttle throttle({2, std::chrono::seconds(60)});
  const UtcTime now = from_ms(1'000'000);
  throttle.record("a", now);
  throttle.record("a", now + milliseconds(1));
  EXPECT_GT(throttle.wait("a", now).count(), 0);
  throttle.take_back("a", now + milliseconds(1));
  throttle.take_back("a", now + milliseconds(2));  // there is none
  throttle.take_back("b", now);
  EXPECT_EQ(throttle.wait("a", now).count(), 0);
  throttle.record("a", now);
  EXPECT_GT(throttle.wait("a", now).count(), 0);
}

TEST(ThrottleTest, IsBounded) {
  Throttle throttle({1, std::chrono::seconds(60)}, 100);
  UtcTime now = from_ms(0);
  for (int i = 0; i < 1000; ++i) throttle.record(std::to_string(i), now += milliseconds(1));
  EXPECT_GT(throttle.wait("999", now).count(), 0);
  EXPECT_EQ(throttle.wait("0", now).count(), 0);  // forgotten
}

}  // namespace
}  // namespace ultraspeed::access
