// The service that access/ is: what a server opens, asks and tells. Everything it needs is here;
// docs/access.md has an example.
//
// Threads: all calls are thread-safe. decide(), reserve() and a reservation's calls are for an
// event loop: they take 0.1 ms together and wait for no disk. What hashes passwords (log_in, apply)
// or commits (keys, decisions) is for another thread. One thread of the service's own writes the
// ledger and the chat's record, twice a second and at the end.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "access/accounts.h"
#include "access/applications.h"
#include "access/billing.h"
#include "access/chat.h"
#include "access/config.h"
#include "access/gate.h"
#include "access/keys.h"
#include "access/ledger.h"
#include "access/private_file.h"

namespace ultraspeed::access {

class Service {
 public:
  // What the service's own thread could not do, once per failure: for a log.
  using Report = std::function<void(const Error&)>;

  // Opens the database, and the journal of what an earlier process was serving, which it settles.
  // A database has one service (the file beside it, .lock), which knows what is under way: two
  // would exceed limits. The command line has the Database alone. REQUIRES: `clock` outlives it.
  // Errors: those of Database, LockedFile, DeliveryJournal and Rates.
  static Result<std::unique_ptr<Service>> open(const AccessConfig& config, const Clock& clock,
                                               Report report);
  // Settles what has finished. REQUIRES: no reservation is left.
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  Answer<Identity> decide(const Question& question) { return gate_.decide(question); }
  Answer<Reservation> reserve(const Identity& identity, const Order& order) {
    return billing_->reserve(identity, order);
  }

  // As those of Billing.
  Answer<void> count_request(const Identity& identity) { return billing_->count_request(identity); }
  Answer<void> count_tokens(const Identity& identity, uint32_t num_tokens) {
    return billing_->count_tokens(identity, num_tokens);
  }

  // A key that an account makes itself: pay as you go, with the configured limits. Refuses: as
  // Keys::create().
  Answer<NewKey> create_own_key(const Account& account, const std::string& name);

  UtcTime now() const { return clock_.now(); }
  const AccessConfig& config() const { return config_; }
  Database& database() { return *database_; }
  Accounts& accounts() { return accounts_; }
  Applications& applications() { return applications_; }
  Keys& keys() { return keys_; }
  Gate& gate() { return gate_; }
  Ledger& ledger() { return ledger_; }
  Chat& chat() { return *chat_; }
  const Billing::Recovery& recovery() const { return billing_->recovery(); }

  // Writes now what has finished, and the chat's record.
  Status flush();

 private:
  Service(const AccessConfig& config, const Clock& clock, LockedFile lock,
          std::unique_ptr<Database> database, Report report);
  Status start();
  void run();

  const AccessConfig config_;
  const Clock& clock_;
  const Report report_;
  const LockedFile lock_;
  std::unique_ptr<Database> database_;
  Accounts accounts_;
  Applications applications_;
  Keys keys_;
  Gate gate_;
  Ledger ledger_;
  std::unique_ptr<Billing> billing_;
  std::unique_ptr<Chat> chat_;

  std::mutex mutex_;  // of is_stopping_
  std::condition_variable stop_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace ultraspeed::access
