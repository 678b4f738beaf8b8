#include "apps/admin_actions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "access/accounts.h"
#include "access/applications.h"
#include "access/audit.h"
#include "access/database.h"
#include "apps/files.h"
#include "apps/terminal.h"
#include "apps/text_table.h"

namespace ultraspeed::apps {
namespace {

constexpr const char* kActor = "command line";
constexpr uint32_t kMaxListed = 10'000;

// A refusal as the command line says it.
template <class T>
Result<T> admitted(access::Answer<T> answer) {
  if (answer) return *std::move(answer);
  const access::Refusal& refusal = answer.error();
  return make_error(ErrorCode::kInvalidArgument, "{}",
                    refusal.log_detail.empty() ? refusal.message : refusal.log_detail);
}

Status print_output(const std::string& text) {
  return write_all(STDOUT_FILENO, text);
}

std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  std::ranges::replace(text, '\t', ' ');
  return text;
}

std::string key_state(const access::Key& key, access::UtcTime now) {
  if (key.revoked) return "revoked";
  return key.expires && *key.expires <= now ? "expired" : "works";
}

// Rows leave in large pieces.
class RowWriter {
 public:
  explicit RowWriter(int file) : file_(file) {}
  Status write(std::string_view line) {
    buffer_ += line;
    return buffer_.size() < kBufferBytes ? Status() : flush();
  }
  Status flush() {
    const std::string text = std::exchange(buffer_, {});
    return write_all(file_, text);
  }

 private:
  static constexpr size_t kBufferBytes = 1 << 16;
  int file_;
  std::string buffer_;
};

}  // namespace

Result<Administration> Administration::open(const std::string& config_file) {
  US_ASSIGN(const std::string text, read_file(config_file));
  US_ASSIGN(std::optional<access::AccessConfig> config, access::parse_config(config_file, text));
  if (!config) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: no [access] section, so the service has no accounts; see "
                      "examples/ultraspeed.toml",
                      config_file);
  }
  US_ASSIGN(auto database, access::Database::open(config->database_file));
  return Administration(*std::move(config), std::move(database));
}

Administration::Administration(access::AccessConfig config,
                               std::unique_ptr<access::Database> database)
    : config_(std::move(config)), database_(std::move(database)) {}
Administration::Administration(Administration&&) noexcept = default;
Administration::~Administration() = default;

access::AccountOptions Administration::account_options() const {
  access::AccountOptions options;
  options.password_cost = config_.password_cost;
  return options;
}

Status Administration::create_administrator(const std::string& name, const std::string& password) {
  access::Accounts accounts(*database_, clock_, account_options());
  US_ASSIGN(const access::Account account, accounts.create_administrator(name, password));
  return print_output(
      fmt::format("administrator {} made in {}\n", account.name, database_->path()));
}

Status Administration::reset_password(const std::string& name, const std::string& password) {
  access::Accounts accounts(*database_, clock_, account_options());
  US_TRY(accounts.reset_password(name, password, kActor));
  return print_output(fmt::format("{} has another password; their sessions have ended\n", name));
}

Status Administration::list_applications(const std::string& state) {
  access::Applications applications(*database_, clock_, config_);
  US_ASSIGN(const auto list,
            admitted(applications.list(access::application_state(state), 0, kMaxListed)));
  TextTable table{{"id", "account", "submitted", "state", "decided by", "statement"}, 6, {}};
  for (const access::Application& application : list) {
    table.rows.push_back({std::to_string(application.id), application.account.name,
                          access::utc_text(application.submitted),
                          std::string(access::state_name(application.state)),
                          application.decided_by, one_line(application.statement)});
  }
  return print_output(plain_table(table));
}

Status Administration::decide(const std::vector<int64_t>& ids, bool is_approved,
                              const std::string& reason) {
  access::Applications applications(*database_, clock_, config_);
  const auto state =
      is_approved ? access::ApplicationState::kApproved : access::ApplicationState::kDeclined;
  for (const int64_t id : ids) {
    US_ASSIGN(const access::Application application,
              admitted(applications.decide(id, state, kActor, reason)));
    US_TRY(
        print_output(fmt::format("application {} of {} is {}\n", application.id,
                                 application.account.name, access::state_name(application.state))));
  }
  return {};
}

Status Administration::list_keys() {
  access::Keys keys(*database_, clock_);
  US_ASSIGN(const auto list, admitted(keys.list(std::nullopt, kMaxListed)));
  const std::string spent = fmt::format("spent {}", config_.currency);
  TextTable table{{"key", "account", "name", "kind", "state", spent, "tokens"}, 5, {}};
  for (const access::Key& key : list) {
    table.rows.push_back({key.public_part, key.account.name, key.name,
                          std::string(access::kind_name(key.kind)), key_state(key, clock_.now()),
                          key.spent.text(), std::to_string(key.used_tokens)});
  }
  return print_output(plain_table(table));
}

Status Administration::create_key(const access::KeySpec& spec) {
  access::Keys keys(*database_, clock_);
  US_ASSIGN(const access::NewKey made, admitted(keys.create(spec, kActor, {})));
  write_to_stderr("The key, which is not shown again:\n");
  return print_output(made.secret + "\n");
}

Status Administration::revoke_key(const std::string& public_part) {
  access::Keys keys(*database_, clock_);
  US_ASSIGN(const access::Key key, admitted(keys.revoke(public_part, std::nullopt, kActor)));
  return print_output(fmt::format("key {} of {} is revoked\n", key.public_part, key.account.name));
}

Status Administration::export_ledger(const access::LedgerFilter& filter, const std::string& out) {
  const int file = out.empty()
                       ? STDOUT_FILENO
                       : ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0) {
    return make_error(ErrorCode::kIo, "{}: cannot write: {}", out, std::strerror(errno));
  }
  RowWriter writer(file);
  access::Ledger ledger(*database_);
  Status status =
      ledger.export_csv(filter, [&](std::string_view line) { return writer.write(line); });
  if (status) status = writer.flush();
  if (file != STDOUT_FILENO) close(file);
  return status;
}

Status Administration::print_totals(const access::LedgerFilter& filter) {
  access::Ledger ledger(*database_);
  US_ASSIGN(const auto totals, ledger.totals(filter, config_.calendar));
  TextTable table{{"day", "account", "key", "tier", "requests", "cached input", "input", "output",
                   config_.currency},
                  4,
                  {}};
  access::Money sum;
  for (const access::DayTotal& total : totals) {
    table.rows.push_back(
        {access::day_text(total.day), total.account, total.key.empty() ? "chat" : total.key,
         total.tier, std::to_string(total.num_requests), std::to_string(total.cached_input_tokens),
         std::to_string(total.input_tokens), std::to_string(total.output_tokens),
         total.price.text()});
    const auto larger = sum.plus(total.price);
    if (!larger) {
      return make_error(ErrorCode::kInvalidArgument, "the sum is over 9223372 {}; give fewer days",
                        config_.currency);
    }
    sum = *larger;
  }
  return print_output(plain_table(table) +
                      fmt::format("in all {} {}\n", sum.text(), config_.currency));
}

Status Administration::print_audit(uint32_t max_entries) {
  US_ASSIGN(const auto entries, access::read_audit(*database_, max_entries));
  TextTable table{{"time", "actor", "action", "subject", "detail"}, 5, {}};
  for (const access::AuditEntry& entry : entries) {
    table.rows.push_back({access::utc_text(entry.at), entry.actor, entry.action, entry.subject,
                          one_line(entry.detail)});
  }
  return print_output(plain_table(table));
}

}  // namespace ultraspeed::apps
