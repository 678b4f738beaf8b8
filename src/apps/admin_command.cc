#include "apps/admin_command.h"

#include <CLI/CLI.hpp>
#include <memory>
#include <vector>

#include "apps/admin_actions.h"
#include "apps/password.h"
#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

struct AdminOptions;
using Action = Status (*)(Administration&, const AdminOptions&);

struct AdminOptions {
  Action action = nullptr;  // of the subcommand that was given
  std::string config_file;
  std::string name, password_file;
  std::string state, reason;
  std::vector<int64_t> ids;
  access::KeySpec key;
  std::optional<uint32_t> requests_per_minute, tokens_per_minute, max_concurrent;
  std::string budget;
  uint32_t expires_days = 0;  // 0: never
  bool is_for_metrics = false;
  std::string out, first_day, last_day;
  uint32_t max_entries = 100;
};

// A subcommand that does `action`. `options` lives as long as the command.
CLI::App& add_action(CLI::App& parent, const std::string& name, const std::string& help,
                     AdminOptions* options, Action action) {
  CLI::App& command = *parent.add_subcommand(name, help);
  command.callback([options, action] { options->action = action; });
  return command;
}

Status run_action(const AdminOptions& options) {
  US_ASSIGN(Administration service, Administration::open(options.config_file));
  return options.action(service, options);
}

void add_password_option(CLI::App& command, AdminOptions* options) {
  command.add_option("NAME", options->name, "The account")->required();
  command
      .add_option("--password-file", options->password_file,
                  "Its first line is the password; -: standard input (default: asks)")
      ->type_name("FILE");
}

void add_account_commands(CLI::App& admin, AdminOptions* options) {
  add_password_option(add_action(admin, "init", "Make the first administrator", options,
                                 [](Administration& service, const AdminOptions& given) -> Status {
                                   US_ASSIGN(const std::string password,
                                             read_password(given.password_file));
                                   return service.create_administrator(given.name, password);
                                 }),
                      options);
  add_password_option(add_action(admin, "reset-password",
                                 "Give an account another password, and end its sessions", options,
                                 [](Administration& service, const AdminOptions& given) -> Status {
                                   US_ASSIGN(const std::string password,
                                             read_password(given.password_file));
                                   return service.reset_password(given.name, password);
                                 }),
                      options);
}

void add_decision_options(CLI::App& command, AdminOptions* options) {
  command.add_option("ID", options->ids, "As 'applications' lists them; one or more")->required();
  command.add_option("--reason", options->reason, "For the audit log");
}

void add_application_commands(CLI::App& admin, AdminOptions* options) {
  add_action(admin, "applications", "List applications for the trial", options,
             [](Administration& service, const AdminOptions& given) {
               return service.list_applications(given.state);
             })
      .add_option("--state", options->state, "Those alone")
      ->check(CLI::IsMember({"pending", "approved", "declined"}));
  add_decision_options(add_action(admin, "approve", "Approve applications", options,
                                  [](Administration& service, const AdminOptions& given) {
                                    return service.decide(given.ids, true, given.reason);
                                  }),
                       options);
  add_decision_options(
      add_action(admin, "decline", "Decline applications, or take approval back", options,
                 [](Administration& service, const AdminOptions& given) {
                   return service.decide(given.ids, false, given.reason);
                 }),
      options);
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
  if (allowance || options.budget == "none") spec.limits.budget.reset();
  if (!options.budget.empty() && options.budget != "none") {
    US_ASSIGN(spec.limits.budget, access::Money::parse(options.budget));
  }
  if (options.is_for_metrics) spec.scopes = access::kScopeMetrics;
  if (options.expires_days > 0) {
    spec.expires = service.clock().now() + std::chrono::days(options.expires_days);
  }
  return spec;
}

void add_key_commands(CLI::App& admin, AdminOptions* options) {
  CLI::App& keys = *admin.add_subcommand("keys", "API keys");
  keys.require_subcommand(1);
  add_action(keys, "list", "List them, without their secrets", options,
             [](Administration& service, const AdminOptions&) { return service.list_keys(); });
  CLI::App& create = add_action(keys, "create", "Make one, and print it once", options,
                                [](Administration& service, const AdminOptions& given) -> Status {
                                  US_ASSIGN(const auto spec, key_spec(given, service));
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
  create.add_option("--budget", options->budget,
                    "What all its requests may cost, or 'none' (default: as configured; a Token "
                    "Plan has none)");
  create.add_option("--expires-days", options->expires_days, "From now (default: never)");
  create.add_flag("--metrics", options->is_for_metrics,
                  "For the metrics alone; of an administrator");
  add_action(keys, "revoke", "Revoke one", options,
             [](Administration& service, const AdminOptions& given) {
               return service.revoke_key(given.name);
             })
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

void add_ledger_commands(CLI::App& admin, AdminOptions* options) {
  CLI::App& ledger = *admin.add_subcommand("ledger", "What requests had and cost");
  ledger.require_subcommand(1);
  CLI::App& exporting =
      add_action(ledger, "export", "Print every row as CSV", options,
                 [](Administration& service, const AdminOptions& given) -> Status {
                   US_ASSIGN(const auto filter, ledger_filter(given, service.config().calendar));
                   return service.export_ledger(filter, given.out);
                 });
  add_day_options(exporting, options);
  exporting.add_option("--out", options->out, "Into this file, for its owner alone")
      ->type_name("FILE");
  CLI::App& totals =
      add_action(ledger, "totals", "Add up by day, key and tier", options,
                 [](Administration& service, const AdminOptions& given) -> Status {
                   US_ASSIGN(const auto filter, ledger_filter(given, service.config().calendar));
                   return service.print_totals(filter);
                 });
  add_day_options(totals, options);
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
  add_account_commands(admin, options.get());
  add_application_commands(admin, options.get());
  add_key_commands(admin, options.get());
  add_ledger_commands(admin, options.get());
  add_action(admin, "audit", "Who decided what, the newest first", options.get(),
             [](Administration& service, const AdminOptions& given) {
               return service.print_audit(given.max_entries);
             })
      .add_option("--max-entries", options->max_entries, "How many")
      ->capture_default_str();
  admin.callback([options, exit_code] {  // after the subcommand's
    const Status status = run_action(*options);
    *exit_code = status ? 0 : report_error(status.error());
  });
}

}  // namespace ultraspeed::apps
