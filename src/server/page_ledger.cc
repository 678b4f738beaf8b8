// The page's routes of usage, applications and the audit log.
#include <fmt/format.h>

#include "access/audit.h"
#include "net/http_message.h"
#include "server/page_api.h"
#include "server/page_responses.h"
#include "server/routes.h"

namespace ultraspeed::server {
namespace {

ApiResult<std::optional<int64_t>> parse_day_of(std::string_view target, std::string_view name) {
  const std::string_view text = query_value(target, name);
  if (text.empty()) return std::nullopt;
  if (const auto day = access::parse_day(text)) return day;
  return invalid_field(
      std::string(name),
      fmt::format("'{}' is '{}'; it must be a day such as 2026-06-09.", name, text));
}

}  // namespace

// --- Usage ---

ApiResult<access::LedgerFilter> PageApi::filter(const Call& call,
                                                std::optional<int64_t> account_id) const {
  const access::Calendar& calendar = service_->config().calendar;
  access::LedgerFilter filter;
  filter.account_id = account_id;
  US_ASSIGN(const auto first, parse_day_of(call.request.target, "first_day"));
  US_ASSIGN(const auto last, parse_day_of(call.request.target, "last_day"));
  if (first) filter.begin = calendar.begin_of(*first);
  if (last) filter.end = calendar.begin_of(*last + 1);
  return filter;
}

ApiResult<net::HttpResponse> PageApi::usage(const Call& call,
                                            std::optional<int64_t> account_id) const {
  US_ASSIGN(const access::LedgerFilter rows, filter(call, account_id));
  US_ASSIGN(const auto days, stored(service_->ledger().totals(rows, service_->config().calendar)));
  return page_response(200, usage_json(days, service_->config()));
}

ApiResult<net::HttpResponse> PageApi::ledger(const Call& call,
                                             std::optional<int64_t> account_id) const {
  US_ASSIGN(const access::LedgerFilter rows, filter(call, account_id));
  net::HttpResponse response{200,
                             {{"Content-Type", "text/csv; charset=utf-8"},
                              {"Content-Disposition", "attachment; filename=usage.csv"},
                              {"Cache-Control", "no-store"}},
                             ""};
  const Status status =
      service_->ledger().export_csv(rows, [&response](std::string_view lines) -> Status {
        response.body += lines;
        return {};
      });
  if (!status) return tl::unexpected(from_refusal(status.error()));
  return response;
}

ApiResult<net::HttpResponse> PageApi::own_usage(const Call& call) const {
  return usage(call, call.identity.account.id);
}

ApiResult<net::HttpResponse> PageApi::own_ledger(const Call& call) const {
  return ledger(call, call.identity.account.id);
}

ApiResult<net::HttpResponse> PageApi::all_usage(const Call& call) const {
  return usage(call, std::nullopt);
}

ApiResult<net::HttpResponse> PageApi::whole_ledger(const Call& call) const {
  return ledger(call, std::nullopt);
}

// --- Administration ---

ApiResult<net::HttpResponse> PageApi::applications(const Call& call) const {
  const std::string_view state = query_value(call.request.target, "state");
  const std::string_view after = query_value(call.request.target, "after");
  const auto wanted = access::application_state(state);
  if (!state.empty() && !wanted) {
    return invalid_field("state", "'state' must be 'pending', 'approved' or 'declined'.");
  }
  US_ASSIGN(const int64_t after_id, parse_id("after", after.empty() ? "0" : after));
  US_ASSIGN(const auto list, allowed(service_->applications().list(wanted, after_id, kMaxListed)));
  Json applications = Json::array();
  for (const access::Application& one : list) applications.push_back(application_json(one));
  return page_response(200, {{"applications", std::move(applications)}, {"next", next_of(list)}});
}

ApiResult<net::HttpResponse> PageApi::decide_application(const Call& call) const {
  US_TRY(check_fields(call.body, {"decision", "reason"}));
  const Fields fields(call.body);
  US_ASSIGN(const int64_t id, parse_id("id", call.last_segment));
  US_ASSIGN(const std::string decision, required_string(fields, "decision"));
  if (decision != "approve" && decision != "decline") {
    return invalid_field("decision", "'decision' must be 'approve' or 'decline'.");
  }
  std::string reason;
  US_TRY(fields.read("reason", &reason));
  const auto state = decision == "approve" ? access::ApplicationState::kApproved
                                           : access::ApplicationState::kDeclined;
  US_ASSIGN(const access::Application decided, allowed(service_->applications().decide(
                                                   id, state, call.identity.account.name, reason)));
  return page_response(200, {{"application", application_json(decided)}});
}

ApiResult<net::HttpResponse> PageApi::audit(const Call& call) const {
  US_ASSIGN(const auto before, id_before(call.request));
  US_ASSIGN(const auto list, stored(access::read_audit(service_->database(), kMaxListed, before)));
  Json entries = Json::array();
  for (const access::AuditEntry& entry : list) {
    entries.push_back({{"id", entry.id},
                       {"at", time_json(entry.at)},
                       {"actor", entry.actor},
                       {"action", entry.action},
                       {"subject", entry.subject},
                       {"detail", entry.detail}});
  }
  return page_response(200, {{"entries", std::move(entries)}, {"next", next_of(list)}});
}

}  // namespace ultraspeed::server
