// Who may do what: one function decides, from what a request presents. What it may cost is
// billing's matter, which gets the identity that decide() returns.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "access/accounts.h"
#include "access/applications.h"
#include "access/keys.h"
#include "access/refusal.h"
#include "access/tier.h"

namespace ultraspeed::access {

enum class RouteClass : uint8_t {
  kPublic,          // health, the page itself, the form of applications, logging in
  kModels,          // what generates nothing: the list of models, token counts; needs a key
  kGenerate,        // needs a key, and what its tier asks for
  kChat,            // needs a session of an approved account in the trial window
  kAccount,         // needs a session: one's own application, keys and usage
  kAdministration,  // needs an administrator's session
  kMetrics,         // needs an administrator's key with that scope, or their session
};

// What a request brings; what it lacks is empty.
struct Credential {
  std::string_view api_key;
  std::string_view session_token;  // of the cookie
  std::string_view csrf_token;     // of a header, which other sites' pages cannot send
};

struct Question {
  RouteClass route = RouteClass::kPublic;
  Credential credential;
  // Of kGenerate; nullopt: not known yet, and who may use none is refused.
  std::optional<Tier> tier = std::nullopt;
  bool has_effect = false;  // any method but GET and HEAD: sessions need their CSRF token
};

// Where an account stands with the trial.
enum class Standing : uint8_t {
  kNoApplication,
  kPending,
  kDeclined,
  kApprovedEarly,  // the window has not begun
  kApproved,       // and the window is open
  kEnded,          // the window is over
};

std::string_view standing_code(Standing standing);  // "approved", "no_application", ...

struct Identity {
  Account account;     // id 0: nobody, on a public route
  int64_t key_id = 0;  // 0: a session
  std::string key;     // its public part
  KeyKind kind = KeyKind::kPayAsYouGo;
  KeyLimits limits;
  Money spent;              // by the key, when it was looked up
  int64_t used_tokens = 0;  // likewise
};

// Thread-safe. Looking somebody up takes about 0.1 ms; it waits for no disk.
class Gate {
 public:
  Gate(Keys& keys, Accounts& accounts, Applications& applications, const Clock& clock,
       const AccessConfig& config)
      : keys_(keys),
        accounts_(accounts),
        applications_(applications),
        clock_(clock),
        config_(config) {}

  // Refuses:
  //   401 missing_credential   no key, or no session, where one is needed
  //   401 invalid_api_key, key_revoked, key_expired, session_ended
  //   403 plan_key_not_on_tier a Token Plan key on a tier that takes none (the fast one)
  //   403 no_application, application_pending, application_declined, trial_not_begun, trial_ended
  //   403 scope, administrators_only, csrf
  // Administrators need no application and no window. A key that is wrong is refused wherever it is
  // presented, but on public routes.
  Answer<Identity> decide(const Question& question);

  Answer<Standing> standing(const Account& account);
  // For the page and for refusals: what the account's owner should know.
  std::string standing_text(Standing standing) const;

 private:
  Answer<Identity> by_key(const Question& question);
  Answer<Identity> by_session(const Question& question);
  Answer<void> check_tier(const Question& question, const Key& key);
  Answer<void> check_trial(const Account& account);

  Keys& keys_;
  Accounts& accounts_;
  Applications& applications_;
  const Clock& clock_;
  const AccessConfig& config_;
};

}  // namespace ultraspeed::access
