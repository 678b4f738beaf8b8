#include "access/accounts.h"

#include <algorithm>

#include "access/audit.h"
#include "access/database.h"

namespace ultraspeed::access {
namespace {

constexpr std::chrono::minutes kFailureSpan{15};
constexpr size_t kSessionTokenBytes = 32;
// How often use of a session is written down: reading the page writes nothing else.
constexpr std::chrono::minutes kUsePrecision{1};

tl::unexpected<Refusal> session_ended() {
  return refuse(401, "session_ended", "Log in: there is no such session, or it has ended.");
}

Account account_of(SQLite::Statement& row, int first) {
  return {row.getColumn(first).getInt64(), row.getColumn(first + 1).getString(),
          row.getColumn(first + 2).getInt() != 0};
}

}  // namespace

Result<std::string> normal_name(std::string_view name) {
  std::string normal(name);
  for (char& c : normal) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("._-+@").find(c) != std::string_view::npos;
  };
  // A name that begins with a sign would be a formula in a spreadsheet, or a flag in a shell.
  if (normal.size() >= 3 && normal.size() <= 64 && std::ranges::all_of(normal, is_allowed) &&
      std::string_view("-+@").find(normal.front()) == std::string_view::npos) {
    return normal;
  }
  return make_error(ErrorCode::kInvalidArgument,
                    "a name has 3 to 64 characters: letters a to z, digits and . _ - + @, the "
                    "first neither a sign nor @");
}

Answer<Account> insert_account(SQLite::Database& sql, const Account& account,
                               const std::string& password_hash, UtcTime now) {
  SQLite::Statement query = statement(sql, "SELECT 1 FROM accounts WHERE name = ?", account.name);
  if (query.executeStep()) {
    return refuse(409, "name_taken", "There is an account with this name; log in.");
  }
  execute(sql,
          "INSERT INTO accounts (name, is_administrator, password_hash, created_ms) "
          "VALUES (?,?,?,?)",
          account.name, account.is_administrator ? 1 : 0, password_hash, to_ms(now));
  return Account{sql.getLastInsertRowid(), account.name, account.is_administrator};
}

std::string csrf_token_of(std::string_view session_token) {
  return derived(session_token, "csrf");
}

Accounts::Accounts(Database& database, const Clock& clock, const AccountOptions& options)
    : database_(database),
      clock_(clock),
      options_(options),
      address_failures_({options.failed_logins_per_address, kFailureSpan}),
      name_failures_({options.failed_logins_per_name, kFailureSpan}),
      name_logins_({options.logins_per_name, kFailureSpan}),
      nobodys_hash_(hash_password(random_text(32), options.password_cost).value_or("")) {}

Result<Account> Accounts::create_administrator(std::string_view name, std::string_view password) {
  US_ASSIGN(const std::string normal, normal_name(name));
  US_ASSIGN(const std::string hash, hash_password(password, options_.password_cost));
  return database_.write([&](SQLite::Database& sql) -> Result<Account> {
    SQLite::Statement first(sql, "SELECT name FROM accounts WHERE is_administrator = 1");
    if (first.executeStep()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "there is an administrator, '{}'; if the password is lost, reset it",
                        first.getColumn(0).getString());
    }
    const UtcTime now = clock_.now();
    const Answer<Account> account = insert_account(sql, {0, normal, true}, hash, now);
    if (!account) {
      return make_error(ErrorCode::kInvalidArgument, "'{}' is the name of an account", normal);
    }
    append_audit(sql, {0, now, "command line", "create administrator", normal, ""});
    return *account;
  });
}

Status Accounts::reset_password(std::string_view name, std::string_view password,
                                const std::string& actor) {
  US_ASSIGN(const std::string normal, normal_name(name));
  US_ASSIGN(const std::string hash, hash_password(password, options_.password_cost));
  return database_.write([&](SQLite::Database& sql) -> Status {
    if (execute(sql, "UPDATE accounts SET password_hash = ? WHERE name = ?", hash, normal) == 0) {
      return make_error(ErrorCode::kNotFound, "there is no account '{}'", normal);
    }
    execute(sql, "DELETE FROM sessions WHERE account_id = (SELECT id FROM accounts WHERE name = ?)",
            normal);
    append_audit(sql, {0, clock_.now(), actor, "reset password", normal, ""});
    return {};
  });
}

Answer<Login> Accounts::log_in(std::string_view name, std::string_view password,
                               const std::string& address, std::string_view presented) {
  const UtcTime now = clock_.now();
  const std::string normal = normal_name(name).value_or("");
  const std::string subject = throttle_subject(address);
  const auto wait = std::max({address_failures_.wait(subject, now),
                              name_failures_.wait(normal, now), name_logins_.wait(normal, now)});
  if (wait.count() > 0) {
    return refuse(429, "too_many_logins", "Too many logins; try again later.",
                  static_cast<uint32_t>(wait.count()));
  }
  // Counted before it is known to have failed: guesses at the same time would all pass otherwise.
  address_failures_.record(subject, now);
  name_failures_.record(normal, now);
  US_ASSIGN(const Account account, check_password(normal, password));
  address_failures_.take_back(subject, now);  // it was none; others of the address stay
  name_failures_.forget(normal);
  name_logins_.record(normal, now);
  return open_session(account, presented);
}

Answer<Account> Accounts::check_password(const std::string& name, std::string_view password) {
  std::string hash = nobodys_hash_;
  Account account;
  const Status found = database_.read([&](SQLite::Database& sql) -> Status {
    SQLite::Statement query = statement(
        sql, "SELECT id, name, is_administrator, password_hash FROM accounts WHERE name = ?", name);
    if (query.executeStep()) {
      account = account_of(query, 0);
      hash = query.getColumn(3).getString();
    }
    return {};
  });
  US_TRY(found);
  if (is_password_of(password, hash) && account.id != 0) return account;
  return refuse(401, "invalid_login", "The name or the password is wrong.");
}

Answer<Login> Accounts::open_session(const Account& account, std::string_view presented) {
  Login login{account, random_text(kSessionTokenBytes), ""};
  login.csrf_token = csrf_token_of(login.session_token);
  const int64_t now = to_ms(clock_.now());
  const int64_t oldest = now - milliseconds(options_.session_lifetime).count();
  return database_.write([&](SQLite::Database& sql) -> Answer<Login> {
    execute(sql, "DELETE FROM sessions WHERE token_digest = ? OR created_ms <= ?",
            digest(presented), oldest);
    execute(sql,
            "INSERT INTO sessions (token_digest, account_id, created_ms, used_ms) VALUES (?,?,?,?)",
            digest(login.session_token), account.id, now, now);
    return login;
  });
}

Answer<Account> Accounts::find_session(std::string_view token) {
  const std::string token_digest = digest(token);
  const UtcTime now = clock_.now();
  UtcTime used;
  auto found = database_.read([&](SQLite::Database& sql) -> Answer<Account> {
    SQLite::Statement query = statement(
        sql,
        "SELECT a.id, a.name, a.is_administrator, s.created_ms, s.used_ms FROM sessions s "
        "JOIN accounts a ON a.id = s.account_id WHERE s.token_digest = ?",
        token_digest);
    if (!query.executeStep()) return session_ended();
    used = std::max(from_ms(query.getColumn(4).getInt64()), unsaved_use(token_digest));
    if (from_ms(query.getColumn(3).getInt64()) + options_.session_lifetime <= now ||
        used + options_.session_idle <= now) {
      return session_ended();
    }
    return account_of(query, 0);
  });
  if (found && used + kUsePrecision <= now) {
    const std::lock_guard lock(uses_mutex_);
    uses_[token_digest] = now;
  }
  return found;
}

UtcTime Accounts::unsaved_use(const std::string& token_digest) {
  const std::lock_guard lock(uses_mutex_);
  const auto found = uses_.find(token_digest);
  return found == uses_.end() ? UtcTime() : found->second;
}

Status Accounts::save_uses() {
  std::unordered_map<std::string, UtcTime> uses;
  {
    const std::lock_guard lock(uses_mutex_);
    uses = uses_;
  }
  if (uses.empty()) return {};
  US_TRY(database_.write([&](SQLite::Database& sql) -> Status {
    for (const auto& [token_digest, used] : uses) {
      execute(sql, "UPDATE sessions SET used_ms = ? WHERE token_digest = ?", to_ms(used),
              token_digest);
    }
    return {};
  }));
  const std::lock_guard lock(uses_mutex_);
  std::erase_if(uses_, [&](const auto& use) {  // but of those used again since
    const auto saved = uses.find(use.first);
    return saved != uses.end() && saved->second == use.second;
  });
  return {};
}

Status Accounts::log_out(std::string_view token) {
  return database_.write([&](SQLite::Database& sql) -> Status {
    execute(sql, "DELETE FROM sessions WHERE token_digest = ?", digest(token));
    return {};
  });
}

}  // namespace ultraspeed::access
