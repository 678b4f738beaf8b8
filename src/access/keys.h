// API keys: "us-PUBLIC-SECRET" of the pay-as-you-go kind, "tp-PUBLIC-SECRET" of a Token Plan. A key
// is shown once, when it is made; the database has its public part, by which it is found, and a
// digest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "access/accounts.h"
#include "access/clock.h"
#include "access/money.h"
#include "access/refusal.h"

namespace ultraspeed::access {

class Database;

enum class KeyKind : uint8_t {
  kPayAsYouGo,
  kTokenPlan,  // has an allowance of tokens; not for the fast tier
};
std::string_view kind_name(KeyKind kind);  // "pay-as-you-go", "token-plan"

// Bits of what a key may be used for.
inline constexpr uint32_t kScopeGenerate = 1;  // models, generation, token counts
inline constexpr uint32_t kScopeMetrics = 2;   // the server's metrics; administrators' keys alone

// 0 and nullopt: no limit. What an account's keys do together is limited, too: account_limits().
struct KeyLimits {
  uint32_t requests_per_minute = 60;
  uint32_t tokens_per_minute = 1'000'000;  // input when a request begins, output when delivered
  uint32_t max_concurrent = 8;
  std::optional<Money> budget;              // what all its requests may cost
  std::optional<int64_t> allowance_tokens;  // all tokens of a Token Plan key
};

struct KeySpec {
  std::string account;  // a name
  std::string name;     // for people, up to 64 characters
  KeyKind kind = KeyKind::kPayAsYouGo;
  uint32_t scopes = kScopeGenerate;
  KeyLimits limits = {};
  std::optional<UtcTime> expires = std::nullopt;
};

struct Key {
  int64_t id = 0;
  Account account;
  std::string public_part;
  std::string name;
  KeyKind kind = KeyKind::kPayAsYouGo;
  uint32_t scopes = 0;
  KeyLimits limits;
  UtcTime created;
  std::optional<UtcTime> expires, revoked;
  Money spent;              // what the ledger says
  int64_t used_tokens = 0;  // likewise
};

struct NewKey {
  Key key;
  std::string secret;  // the whole key; nothing keeps it
};

// Thread-safe.
class Keys {
 public:
  Keys(Database& database, const Clock& clock) : database_(database), clock_(clock) {}

  // How many an account may have that are not revoked, and make in any 24 hours.
  struct Bounds {
    uint32_t num_keys = UINT32_MAX;
    uint32_t new_keys_per_day = UINT32_MAX;
  };
  // Refuses: 404 (no such account), 400 (a name, a plan without allowance, a scope that is not the
  // account's), 409 "too_many_keys", 429 "too_many_new_keys".
  Answer<NewKey> create(const KeySpec& spec, const std::string& actor, const Bounds& bounds);
  // The key that a client presents, in time that does not depend on how much of a secret is right.
  // Revoked and expired ones are found. Refuses: 401 "invalid_api_key".
  Answer<Key> find(std::string_view presented);
  // `account_id`: whose key it must be; nullopt: anybody's. Revoking twice is fine. Refuses: 404.
  Answer<Key> revoke(const std::string& public_part, std::optional<int64_t> account_id,
                     const std::string& actor);
  // What the ledger says of all pay-as-you-go keys of an account, revoked ones too.
  Answer<Money> spent_by(int64_t account_id);
  // Of one account or of all, the newest first, of all or of those before one.
  Answer<std::vector<Key>> list(std::optional<int64_t> account_id, uint32_t max_keys,
                                std::optional<int64_t> before_id = std::nullopt);

 private:
  Database& database_;
  const Clock& clock_;
};

}  // namespace ultraspeed::access
