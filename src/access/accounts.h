// Accounts of people: names, passwords, and sessions of the page. A session is a random token in a
// cookie, of which the database has a digest; logging in always makes another, so that a token that
// somebody planted in a browser is worth nothing. Its CSRF token is derived from it.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "access/clock.h"
#include "access/refusal.h"
#include "access/secrets.h"
#include "access/throttle.h"

namespace SQLite {  // NOLINT(readability-identifier-naming)
class Database;
}

namespace ultraspeed::access {

class Database;

struct Account {
  int64_t id = 0;
  std::string name;
  bool is_administrator = false;
};

struct Login {
  Account account;
  std::string session_token;  // for a cookie: HttpOnly, SameSite=Strict, Secure under TLS
  std::string csrf_token;     // the page sends it with whatever has an effect
};

struct AccountOptions {
  std::chrono::hours session_lifetime{12};
  std::chrono::minutes session_idle{120};  // a session not used for that long ends
  PasswordCost password_cost;
  uint32_t failed_logins_per_address = 10;  // in 15 minutes
  uint32_t failed_logins_per_name = 30;
  uint32_t logins_per_name = 60;  // right ones, whose passwords take as long to hash
};

// The name as it is stored: lower case. Errors: kInvalidArgument unless it is 3 to 64 of a-z, 0-9
// and
// ". _ - + @": nothing that needs escaping.
Result<std::string> normal_name(std::string_view name);

// Part of a transaction; throws what SQLiteCpp throws. Refuses: 409 "name_taken".
Answer<Account> insert_account(SQLite::Database& sql, const Account& account,
                               const std::string& password_hash, UtcTime now);

std::string csrf_token_of(std::string_view session_token);

// Thread-safe. Passwords take 0.1 s and 64 MiB each: not on an event loop.
class Accounts {
 public:
  Accounts(Database& database, const Clock& clock, const AccountOptions& options);

  // Errors: kInvalidArgument (name, password, or there is one already), those of Database.
  Result<Account> create_administrator(std::string_view name, std::string_view password);
  // Ends the account's sessions. Errors: kInvalidArgument, kNotFound.
  Status reset_password(std::string_view name, std::string_view password, const std::string& actor);

  // `address`: the client's. `presented`: the session token that came with the request, if any;
  // that session ends. Refuses: 401 "invalid_login" (whichever of name and password is wrong), 429.
  Answer<Login> log_in(std::string_view name, std::string_view password, const std::string& address,
                       std::string_view presented);
  // Whose session it is. That it was used is kept until save_uses(). Refuses: 401 "session_ended".
  Answer<Account> find_session(std::string_view token);
  Status save_uses();
  Status log_out(std::string_view token);

 private:
  Answer<Account> check_password(const std::string& name, std::string_view password);
  Answer<Login> open_session(const Account& account, std::string_view presented);
  UtcTime unsaved_use(const std::string& token_digest);

  Database& database_;
  const Clock& clock_;
  const AccountOptions options_;
  Throttle address_failures_, name_failures_, name_logins_;
  std::string nobodys_hash_;  // compared with where there is no such account: it takes as long

  std::mutex uses_mutex_;
  std::unordered_map<std::string, UtcTime> uses_;  // by the token's digest; not yet written
};

}  // namespace ultraspeed::access
