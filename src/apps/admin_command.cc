#include "apps/admin_command.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "apps/admin_actions.h"
#include "apps/password.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

struct AdminOptions {
  std::string config_file;
  std::string name, password_file;
  std::string state, reason;
  int64_t id = 0;
  access::KeySpec key;
  std::optional<uint32_t> requests_per_minute, tokens_per_minute, max_concurrent;
  std::string budget;
  uint32_t expires_days = 0;  // 0: never
  bool is_for_metrics = false;
  std::string out, first_day, last_day;
  uint32_t max_entries = 100;
};

using Action = std::function<Status(Administration&)>;

// A subcommand that does `action`.
CLI::App& add_action(CLI::App& parent, const std::string& name, const std::string& help,
                     const std::shared_ptr<AdminOptions>& options, int* exit_code,
                     const Action& action) {
  CLI::App& command = *parent.add_subcommand(name, help);
  command.callback([options, exit_code, action] {
    const auto act = [&]() -> Status {
      US_ASSIGN(Administration administration, Administration::open(options->config_file));
      return action(administration);
    };
    const Status status = act();
    *exit_code = status ? 0 : report_error(status.error());
  });
  return command;
}

void add_password_option(CLI::App& command, AdminOptions* options) {
  command.add_option("NAME", options->name, "The account")->required();
  command
      .add_option("--password-file", options->password_file,
                  "Its first line is the password; -: standard input (default: asks)")
      ->type_name("FILE");
}

void add_account_commands(CLI::App& admin, const std::shared_ptr<AdminOptions>& options,
                          int* exit_code) {
  CLI::App& init =
      add_action(admin, "init", "Make the first administrator", options, exit_code,
                 [options](Administration& service) -> Status {
                   US_ASSIGN(const std::string password, read_password(options->password_file));
                   return service.create_administrator(options->name, password);
                 });
  add_password_option(init, options.get());
  CLI::App& reset =
      add_action(admin, "reset-password", "Give an account another password, and end its sessions",
                 options, exit_code, [options](Administration& service) -> Status {
                   US_ASSIGN(const std::string password, read_password(options->password_file));
                   return service.reset_password(options->name, password);
                 });
  add_password_option(reset, options.get());
}

void add_application_commands(CLI::App& admin, const std::shared_ptr<AdminOptions>& options,
                              int* exit_code) {
  add_action(
      admin, "applications", "List applications for the trial", options, exit_code,
      [options](Administration& service) { return service.list_applications(options->state); })
      .add_option("--state", options->state, "Those alone")
      ->check(CLI::IsMember({"pending", "approved", "declined"}));
  for (const bool is_approval : {true, false}) {
    CLI::App& command = add_action(
        admin, is_approval ? "approve" : "decline",
        is_approval ? "Approve an application" : "Decline an application, or take approval back",
        options, exit_code, [options, is_approval](Administration& service) {
          return service.decide(options->id, is_approval, options->reason);
        });
    command.add_option("ID", options->id, "As 'applications' lists it")->required();
    command.add_option("--reason", options->reason, "For the audit log");
  }
}

// The configured limits, and what the flags say otherwise.
Result<access::KeySpec> key_spec(const AdminOptions& options, const Administration& service) {
  access::KeySpec spec = options.key;
  const auto allowance = spec.limits.allowance_tokens;
  spec.limits = service.config().limits;
  spec.limits.allowance_tokens = allowance;
  if (allowance) spec.kind = access::KeyKind::kTokenPlan;
  if (options.requests_per_minute) spec.limits.requests_per_minute = *options.requests_per_minute;
  if (options.tokens_per_minute) spec.limits.tokens_per_minute = *options.tokens_per_minute;
  if (options.max_concurrent) spec.limits.max_concurrent = *options.max_concurrent;
  if (!options.budget.empty()) {
    US_ASSIGN(spec.limits.budget, access::Money::parse(options.budget));
  }
  if (options.is_for_metrics) spec.scopes = access::kScopeMetrics;
  if (options.expires_days > 0) {
    spec.expires = service.clock().now() + std::chrono::days(options.expires_days);
  }
  return spec;
}

void add_key_commands(CLI::App& admin, const std::shared_ptr<AdminOptions>& options,
                      int* exit_code) {
  CLI::App& keys = *admin.add_subcommand("keys", "API keys");
  keys.require_subcommand(1);
  add_action(keys, "list", "List them, without their secrets", options, exit_code,
             [](Administration& service) { return service.list_keys(); });
  CLI::App& create = add_action(keys, "create", "Make one, and print it once", options, exit_code,
                                [options](Administration& service) -> Status {
                                  US_ASSIGN(const auto spec, key_spec(*options, service));
                                  return service.create_key(spec);
                                });
  create.add_option("ACCOUNT", options->key.account, "Whose it is")->required();
  create.add_option("--name", options->key.name, "What it is called")->required();
  create
      .add_option("--plan-tokens", options->key.limits.allowance_tokens,
                  "A Token Plan key with an allowance of so many tokens")
      ->check(CLI::PositiveNumber);
  create.add_option("--requests-per-minute", options->requests_per_minute, "0: any");
  create.add_option("--tokens-per-minute", options->tokens_per_minute, "0: any");
  create.add_option("--max-concurrent", options->max_concurrent, "0: any");
  create.add_option("--budget", options->budget, "What all its requests may cost");
  create.add_option("--expires-days", options->expires_days, "From now (default: never)");
  create.add_flag("--metrics", options->is_for_metrics,
                  "For the metrics alone; of an administrator");
  add_action(keys, "revoke", "Revoke one", options, exit_code,
             [options](Administration& service) { return service.revoke_key(options->name); })
      .add_option("KEY", options->name, "As 'keys list' names it")
      ->required();
}

Result<access::LedgerFilter> ledger_filter(const AdminOptions& options,
                                           const access::Calendar& calendar) {
  access::LedgerFilter filter;
  for (const bool is_first : {true, false}) {
    const std::string& text = is_first ? options.first_day : options.last_day;
    if (text.empty()) continue;
    const auto day = access::parse_day(text);
    if (!day) {
      return make_error(ErrorCode::kInvalidArgument, "'{}' is no day; expected one like 2026-06-09",
                        text);
    }
    (is_first ? filter.begin : filter.end) = calendar.begin_of(is_first ? *day : *day + 1);
  }
  return filter;
}

void add_day_options(CLI::App& command, AdminOptions* options) {
  command.add_option("--first-day", options->first_day, "As 2026-06-09")->type_name("DAY");
  command.add_option("--last-day", options->last_day, "Included")->type_name("DAY");
}

void add_ledger_commands(CLI::App& admin, const std::shared_ptr<AdminOptions>& options,
                         int* exit_code) {
  CLI::App& ledger = *admin.add_subcommand("ledger", "What requests had and cost");
  ledger.require_subcommand(1);
  CLI::App& exporting =
      add_action(ledger, "export", "Print every row as CSV", options, exit_code,
                 [options](Administration& service) -> Status {
                   US_ASSIGN(const auto filter, ledger_filter(*options, service.config().calendar));
                   return service.export_ledger(filter, options->out);
                 });
  add_day_options(exporting, options.get());
  exporting.add_option("--out", options->out, "Into this file, for its owner alone")
      ->type_name("FILE");
  CLI::App& totals =
      add_action(ledger, "totals", "Add up by day, key and tier", options, exit_code,
                 [options](Administration& service) -> Status {
                   US_ASSIGN(const auto filter, ledger_filter(*options, service.config().calendar));
                   return service.print_totals(filter);
                 });
  add_day_options(totals, options.get());
}

}  // namespace

void add_admin_command(CLI::App& app, int* exit_code) {
  const auto options = std::make_shared<AdminOptions>();
  CLI::App& admin = *app.add_subcommand(
      "admin", "Accounts, applications, keys and the ledger of a service (docs/access.md)");
  admin.fallthrough();  // --config may come last
  admin
      .add_option("--config", options->config_file,
                  "The service's TOML file, with its [access] section")
      ->required()
      ->envname("ULTRASPEED_CONFIG")
      ->type_name("FILE");
  admin.require_subcommand(1);
  add_account_commands(admin, options, exit_code);
  add_application_commands(admin, options, exit_code);
  add_key_commands(admin, options, exit_code);
  add_ledger_commands(admin, options, exit_code);
  add_action(
      admin, "audit", "Who decided what, the newest first", options, exit_code,
      [options](Administration& service) { return service.print_audit(options->max_entries); })
      .add_option("--max-entries", options->max_entries, "How many")
      ->capture_default_str();
}

}  // namespace ultraspeed::apps
