#include "access/keys.h"

#include <algorithm>
#include <array>

#include "access/audit.h"
#include "access/database.h"
#include "access/secrets.h"

namespace ultraspeed::access {
namespace {

constexpr size_t kPublicLength = 12;  // hexadecimal: no flag for a shell, no formula
constexpr size_t kSecretBytes = 32;   // 43 characters
constexpr size_t kPrefixLength = 3;
constexpr std::array<std::string_view, 2> kKindNames = {"pay-as-you-go", "token-plan"};
constexpr std::array<std::string_view, 2> kPrefixes = {"us-", "tp-"};

constexpr const char* kSelectKeys =
    "SELECT k.id, a.id, a.name, a.is_administrator, k.public_part, k.name, k.kind, k.scopes, "
    "k.created_ms, k.expires_ms, k.revoked_ms, k.requests_per_minute, k.tokens_per_minute, "
    "k.max_concurrent, k.budget_units, k.allowance_tokens, k.spent_units, k.used_tokens, "
    "k.secret_digest FROM keys k JOIN accounts a ON a.id = k.account_id ";
constexpr int kSecretColumn = 18;

SQLite::Statement select_keys(SQLite::Database& sql, const std::string& condition) {
  return {sql, std::string(kSelectKeys) + condition};
}

std::optional<UtcTime> optional_time(const SQLite::Column& column) {
  return column.isNull() ? std::nullopt : std::optional<UtcTime>(from_ms(column.getInt64()));
}

std::optional<int64_t> optional_ms(const std::optional<UtcTime>& time) {
  return time ? std::optional<int64_t>(to_ms(*time)) : std::nullopt;
}

Key key_of(SQLite::Statement& row) {
  Key key;
  key.id = row.getColumn(0).getInt64();
  key.account = {row.getColumn(1).getInt64(), row.getColumn(2).getString(),
                 row.getColumn(3).getInt() != 0};
  key.public_part = row.getColumn(4).getString();
  key.name = row.getColumn(5).getString();
  key.kind =
      row.getColumn(6).getString() == kKindNames[1] ? KeyKind::kTokenPlan : KeyKind::kPayAsYouGo;
  key.scopes = row.getColumn(7).getUInt();
  key.created = from_ms(row.getColumn(8).getInt64());
  key.expires = optional_time(row.getColumn(9));
  key.revoked = optional_time(row.getColumn(10));
  key.limits.requests_per_minute = row.getColumn(11).getUInt();
  key.limits.tokens_per_minute = row.getColumn(12).getUInt();
  key.limits.max_concurrent = row.getColumn(13).getUInt();
  if (const auto units = optional_int(row.getColumn(14))) key.limits.budget = Money{*units};
  key.limits.allowance_tokens = optional_int(row.getColumn(15));
  key.spent = {row.getColumn(16).getInt64()};
  key.used_tokens = row.getColumn(17).getInt64();
  return key;
}

bool is_printable_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 &&
         std::ranges::all_of(name, [](char c) { return c >= 0x20 && c < 0x7f; });
}

Status check_spec(const KeySpec& spec, const Account& account) {
  if (!is_printable_name(spec.name)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a key's name has 1 to 64 printable ASCII characters");
  }
  if ((spec.kind == KeyKind::kTokenPlan) != spec.limits.allowance_tokens.has_value()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "a Token Plan key has an allowance of tokens, and no other key has one");
  }
  const uint32_t allowed = kScopeGenerate | (account.is_administrator ? kScopeMetrics : 0);
  if (spec.scopes == 0 || (spec.scopes & ~allowed) != 0) {
    return make_error(ErrorCode::kInvalidArgument, "the account's keys cannot have these scopes");
  }
  return {};
}

Answer<Account> account_named(SQLite::Database& sql, const std::string& given) {
  const std::string name = normal_name(given).value_or(given);
  SQLite::Statement query =
      statement(sql, "SELECT id, name, is_administrator FROM accounts WHERE name = ?", name);
  if (query.executeStep()) {
    return Account{query.getColumn(0).getInt64(), query.getColumn(1).getString(),
                   query.getColumn(2).getInt() != 0};
  }
  return make_error(ErrorCode::kNotFound, "there is no account '{}'", name);
}

Answer<void> check_bounds(SQLite::Database& sql, const Account& account, const Keys::Bounds& bounds,
                          UtcTime now) {
  SQLite::Statement counts = statement(
      sql,
      "SELECT count(*) FILTER (WHERE revoked_ms IS NULL), count(*) FILTER (WHERE created_ms > ?2) "
      "FROM keys WHERE account_id = ?1",
      account.id, to_ms(now - std::chrono::hours(24)));
  counts.executeStep();
  if (counts.getColumn(0).getUInt() >= bounds.num_keys) {
    return refuse(409, "too_many_keys", "The account has as many keys as it may have.");
  }
  if (counts.getColumn(1).getUInt() >= bounds.new_keys_per_day) {
    return refuse(429, "too_many_new_keys",
                  "The account has made as many keys in a day as it may make.", 3600);
  }
  return {};
}

void insert_key(SQLite::Database& sql, const KeySpec& spec, const Key& key,
                const std::string& secret_digest) {
  const KeyLimits& limits = spec.limits;
  execute(sql,
          "INSERT INTO keys (account_id, public_part, secret_digest, name, kind, scopes, "
          "created_ms, expires_ms, requests_per_minute, tokens_per_minute, max_concurrent, "
          "budget_units, allowance_tokens) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
          key.account.id, key.public_part, secret_digest, spec.name,
          std::string(kind_name(spec.kind)), spec.scopes, to_ms(key.created),
          optional_ms(spec.expires), limits.requests_per_minute, limits.tokens_per_minute,
          limits.max_concurrent,
          limits.budget ? std::optional<int64_t>(limits.budget->units) : std::nullopt,
          limits.allowance_tokens);
}

}  // namespace

std::string_view kind_name(KeyKind kind) {
  return kKindNames[static_cast<size_t>(kind)];
}

Answer<NewKey> Keys::create(const KeySpec& spec, const std::string& actor, const Bounds& bounds) {
  return database_.write([&](SQLite::Database& sql) -> Answer<NewKey> {
    US_ASSIGN(const Account account, account_named(sql, spec.account));
    US_TRY(check_spec(spec, account));
    US_TRY(check_bounds(sql, account, bounds, clock_.now()));
    NewKey made;
    Key& key = made.key;
    key = {0,
           account,
           digest(random_text(kSecretBytes)).substr(0, kPublicLength),
           spec.name,
           spec.kind,
           spec.scopes,
           spec.limits,
           clock_.now(),
           spec.expires,
           std::nullopt,
           {},
           0};
    made.secret = std::string(kPrefixes[static_cast<size_t>(spec.kind)]) + key.public_part + "-" +
                  random_text(kSecretBytes);
    insert_key(sql, spec, key, digest(made.secret));
    key.id = sql.getLastInsertRowid();
    append_audit(sql, {0, key.created, actor, "create key", key.public_part, account.name});
    return made;
  });
}

Answer<Key> Keys::find(std::string_view presented) {
  // Without the right form the lookups below find nothing, in the same time.
  const std::string public_part(
      presented.size() > kPrefixLength ? presented.substr(kPrefixLength, kPublicLength) : "");
  const std::string presented_digest = digest(presented);
  return database_.read([&](SQLite::Database& sql) -> Answer<Key> {
    SQLite::Statement query = select_keys(sql, "WHERE k.public_part = ?");
    query.bind(1, public_part);
    const bool is_known = query.executeStep();
    const std::string stored =
        is_known ? query.getColumn(kSecretColumn).getString() : std::string(64, '0');
    if (is_equal(stored, presented_digest) && is_known) return key_of(query);
    return refuse(401, "invalid_api_key", "The API key is wrong.");
  });
}

Answer<Key> Keys::revoke(const std::string& public_part, std::optional<int64_t> account_id,
                         const std::string& actor) {
  return database_.write([&](SQLite::Database& sql) -> Answer<Key> {
    SQLite::Statement query =
        select_keys(sql, "WHERE k.public_part = ?1 AND (?2 IS NULL OR k.account_id = ?2)");
    query.bind(1, public_part);
    if (account_id) query.bind(2, *account_id);
    if (!query.executeStep()) {
      return make_error(ErrorCode::kNotFound, "there is no key '{}'", public_part);
    }
    Key key = key_of(query);
    if (key.revoked) return key;
    key.revoked = clock_.now();
    execute(sql, "UPDATE keys SET revoked_ms = ? WHERE id = ?", to_ms(*key.revoked), key.id);
    append_audit(sql, {0, *key.revoked, actor, "revoke key", public_part, key.account.name});
    return key;
  });
}

Answer<Money> Keys::spent_by(int64_t account_id) {
  return database_.read([&](SQLite::Database& sql) -> Answer<Money> {
    SQLite::Statement query =
        statement(sql, "SELECT spent_units FROM keys WHERE account_id = ? AND kind = ?", account_id,
                  std::string(kind_name(KeyKind::kPayAsYouGo)));
    Money sum;
    while (query.executeStep()) {
      sum = sum.plus({query.getColumn(0).getInt64()}).value_or(kMostMoney);
    }
    return sum;
  });
}

Answer<std::vector<Key>> Keys::list(std::optional<int64_t> account_id, uint32_t max_keys,
                                    std::optional<int64_t> before_id) {
  const auto list = [&](SQLite::Database& sql) -> Answer<std::vector<Key>> {
    const std::string of_account = account_id ? "k.account_id = ?1 AND " : "";
    SQLite::Statement query =
        select_keys(sql, "WHERE " + of_account + "k.id < ?2 ORDER BY k.id DESC LIMIT ?3");
    if (account_id) query.bind(1, *account_id);
    query.bind(2, before_id.value_or(INT64_MAX));
    query.bind(3, max_keys);
    std::vector<Key> keys;
    while (query.executeStep()) keys.push_back(key_of(query));
    return keys;
  };
  return account_id ? database_.read(list) : database_.report(list);
}

}  // namespace ultraspeed::access
