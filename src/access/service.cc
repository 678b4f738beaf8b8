#include "access/service.h"

#include "access/database.h"

namespace ultraspeed::access {
namespace {

constexpr milliseconds kFlushInterval{500};

AccountOptions account_options(const AccessConfig& config) {
  return {config.session_lifetime,
          config.session_idle,
          config.password_cost,
          config.floods.failed_logins_per_address,
          config.floods.failed_logins_per_name,
          config.floods.logins_per_name};
}

}  // namespace

Result<std::unique_ptr<Service>> Service::open(const AccessConfig& config, const Clock& clock,
                                               Report report) {
  US_ASSIGN(std::unique_ptr<Database> database, Database::open(config.database_file));
  US_ASSIGN(LockedFile lock,
            LockedFile::open(database->path() + ".lock", "lock of the access database"));
  std::unique_ptr<Service> service(
      new Service(config, clock, std::move(lock), std::move(database), std::move(report)));
  US_TRY(service->start());
  return service;
}

Service::Service(const AccessConfig& config, const Clock& clock, LockedFile lock,
                 std::unique_ptr<Database> database, Report report)
    : config_(config),
      clock_(clock),
      report_(std::move(report)),
      lock_(std::move(lock)),
      database_(std::move(database)),
      accounts_(*database_, clock, account_options(config_)),
      applications_(*database_, clock, config_),
      keys_(*database_, clock),
      gate_(keys_, accounts_, applications_, clock, config_),
      ledger_(*database_) {}

Status Service::start() {
  US_ASSIGN(billing_, Billing::open(*database_, clock_, config_));
  US_ASSIGN(chat_, Chat::open(*database_, clock_, config_));
  thread_ = std::thread([this] { run(); });
  return {};
}

Service::~Service() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  stop_.notify_one();
  thread_.join();
}

Status Service::flush() {
  US_TRY(billing_->commit());
  US_TRY(accounts_.save_uses());
  return chat_->save();
}

Answer<NewKey> Service::create_own_key(const Account& account, const std::string& name) {
  KeySpec spec;
  spec.account = account.name;
  spec.name = name;
  spec.limits = config_.limits;
  return keys_.create(spec, account.name,
                      {config_.max_keys_per_account, config_.floods.new_keys_per_day});
}

void Service::run() {
  bool was_well = true;
  for (bool is_last = false; !is_last;) {
    {
      std::unique_lock lock(mutex_);
      is_last = stop_.wait_for(lock, kFlushInterval, [this] { return is_stopping_; });
    }
    const Status status = flush();
    if (!status && was_well && report_) report_(status.error());
    was_well = status.has_value();
  }
}

}  // namespace ultraspeed::access
