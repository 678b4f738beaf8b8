// What `ultraspeed admin` does, once its words are read. Everything prints to standard output.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "access/calendar.h"
#include "access/config.h"
#include "access/keys.h"
#include "access/ledger.h"
#include "base/result.h"

namespace ultraspeed::access {
class Database;
}

namespace ultraspeed::apps {

// A service's database, without its journal, which belongs to the server.
class Administration {
 public:
  // Errors: those of read_file(), parse_config() and Database; kInvalidArgument without [access].
  static Result<Administration> open(const std::string& config_file);
  Administration(Administration&&) noexcept;
  Administration& operator=(Administration&&) = delete;
  ~Administration();

  const access::AccessConfig& config() const { return config_; }
  const access::Clock& clock() const { return clock_; }

  Status create_administrator(const std::string& name, const std::string& password);
  Status reset_password(const std::string& name, const std::string& password);
  Status list_applications(const std::string& state);  // empty: all
  // Up to the first that fails, in order.
  Status decide(const std::vector<int64_t>& ids, bool is_approved, const std::string& reason);
  Status list_keys();
  Status create_key(const access::KeySpec& spec);
  Status revoke_key(const std::string& public_part);
  Status export_ledger(const access::LedgerFilter& filter, const std::string& out);
  Status print_totals(const access::LedgerFilter& filter);
  Status print_audit(uint32_t max_entries);

 private:
  Administration(access::AccessConfig config, std::unique_ptr<access::Database> database);
  access::AccountOptions account_options() const;

  access::AccessConfig config_;
  access::SystemClock clock_;
  std::unique_ptr<access::Database> database_;
};

}  // namespace ultraspeed::apps
