// Applications for the trial: an applicant makes an account with one; an administrator approves or
// declines it, and may think again. Approval opens the API and the chat while the trial lasts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "access/accounts.h"
#include "access/clock.h"
#include "access/config.h"
#include "access/refusal.h"
#include "access/throttle.h"

namespace ultraspeed::access {

class Database;

enum class ApplicationState : uint8_t { kPending, kApproved, kDeclined };
std::string_view state_name(ApplicationState state);  // "pending"
std::optional<ApplicationState> application_state(std::string_view name);

struct Application {
  int64_t id = 0;
  Account account;
  std::string statement;  // what the applicant wrote: any text, to be escaped where it is shown
  UtcTime submitted;
  ApplicationState state = ApplicationState::kPending;
  std::optional<UtcTime> decided;
  std::string decided_by, reason;
};

struct Submission {
  std::string name, password;
  std::string statement;  // UTF-8, up to 4000 characters, no control ones but line feeds and tabs
  std::string address;    // the client's
};

// Thread-safe.
class Applications {
 public:
  Applications(Database& database, const Clock& clock, const AccessConfig& config);

  // Makes the account. Refuses: 400 (name, password, statement), which counts as no application;
  // 403 "trial_ended", 409 "name_taken", 429 "too_many_applications" (of an address, of all, or
  // waiting for an answer), before any work that costs.
  Answer<Application> submit(const Submission& submission);
  // The oldest first, after `after_id`. nullopt: in any state.
  Answer<std::vector<Application>> list(std::optional<ApplicationState> state, int64_t after_id,
                                        uint32_t max_entries);
  Answer<std::optional<Application>> find(int64_t account_id);
  // Any state but pending. Deciding again changes the state; both are in the audit log. Refuses:
  // 404.
  Answer<Application> decide(int64_t id, ApplicationState state, const std::string& actor,
                             const std::string& reason);

 private:
  Answer<void> check_flood(const std::string& address);

  Database& database_;
  const Clock& clock_;
  const AccessConfig& config_;
  Throttle of_address_, of_all_;
};

}  // namespace ultraspeed::access
