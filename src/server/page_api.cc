// The table of routes, and those of everybody: sessions, applications, the chat's queue.
#include "server/page_api.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "server/offer.h"
#include "server/page_responses.h"
#include "server/routes.h"

namespace ultraspeed::server {

using access::RouteClass;

namespace {

constexpr size_t kMaxWaiting = 64;  // for threads of one kind
constexpr size_t kMaxBodyBytes = 65536;

// Whether `path` is the pattern's, whose "*" at the end stands for one segment.
bool fits(std::string_view path, std::string_view pattern) {
  if (!pattern.ends_with("/*")) return path == pattern;
  pattern.remove_suffix(1);
  return path.size() > pattern.size() && path.starts_with(pattern) &&
         path.find('/', pattern.size()) == std::string_view::npos;
}

}  // namespace

std::span<const PageApi::Entry> PageApi::entries() {
  static constexpr std::array kEntries = {
      Entry{"GET", "/api/session", RouteClass::kPublic, &PageApi::session},
      Entry{"POST", "/api/login", RouteClass::kPublic, &PageApi::log_in, Work::kPassword},
      Entry{"POST", "/api/logout", RouteClass::kAccount, &PageApi::log_out},
      Entry{"POST", "/api/applications", RouteClass::kPublic, &PageApi::apply, Work::kPassword},
      Entry{"GET", "/api/application", RouteClass::kAccount, &PageApi::application},
      Entry{"GET", "/api/keys", RouteClass::kAccount, &PageApi::own_keys},
      Entry{"POST", "/api/keys", RouteClass::kAccount, &PageApi::create_own_key},
      Entry{"DELETE", "/api/keys/*", RouteClass::kAccount, &PageApi::revoke_own_key},
      Entry{"GET", "/api/usage", RouteClass::kAccount, &PageApi::own_usage, Work::kReport},
      Entry{"GET", "/api/usage.csv", RouteClass::kAccount, &PageApi::own_ledger, Work::kReport},
      Entry{"GET", "/api/chat", RouteClass::kChat, &PageApi::chat_state},
      Entry{"POST", "/api/chat/join", RouteClass::kChat, &PageApi::join_chat},
      Entry{"POST", "/api/chat/leave", RouteClass::kChat, &PageApi::leave_chat},
      Entry{"GET", "/api/admin/applications", RouteClass::kAdministration, &PageApi::applications},
      Entry{"POST", "/api/admin/applications/*", RouteClass::kAdministration,
            &PageApi::decide_application},
      Entry{"GET", "/api/admin/keys", RouteClass::kAdministration, &PageApi::all_keys,
            Work::kReport},
      Entry{"POST", "/api/admin/keys", RouteClass::kAdministration, &PageApi::create_key},
      Entry{"DELETE", "/api/admin/keys/*", RouteClass::kAdministration, &PageApi::revoke_key},
      Entry{"GET", "/api/admin/usage", RouteClass::kAdministration, &PageApi::all_usage,
            Work::kReport},
      Entry{"GET", "/api/admin/usage.csv", RouteClass::kAdministration, &PageApi::whole_ledger,
            Work::kReport},
      Entry{"GET", "/api/admin/audit", RouteClass::kAdministration, &PageApi::audit}};
  return kEntries;
}

PageApi::PageApi(access::Service* service, PageFacts facts, Post post)
    : service_(service),
      facts_(std::move(facts)),
      post_(std::move(post)),
      pools_{TaskPool(2), TaskPool(1), TaskPool(1)} {}

void PageApi::stop() {
  for (TaskPool& pool : pools_) pool.stop();
}

void PageApi::answer(const net::HttpRequest& request, const std::string& address,
                     bool is_behind_tls, const std::shared_ptr<Exchange>& exchange) {
  const std::string path = request.path();
  const std::string_view method =
      request.method == "HEAD" ? "GET" : std::string_view(request.method);
  const Entry* found = nullptr;
  std::string allowed;
  for (const Entry& entry : entries()) {
    const bool is_there = service_ != nullptr || entry.handler == &PageApi::session;
    if (!is_there || !fits(path, entry.path)) continue;
    if (!allowed.empty()) allowed += ", ";
    allowed += entry.method;
    if (entry.method == method) found = &entry;
  }
  if (allowed.empty()) return exchange->fail(unknown_route(request));
  if (found == nullptr) return exchange->fail(method_not_allowed(request.method, allowed));
  if (request.body.size() > kMaxBodyBytes) {
    return exchange->fail(from_refusal({413, "request_too_large",
                                        fmt::format("The body has {} bytes; expected at most {}.",
                                                    request.body.size(), kMaxBodyBytes)}));
  }
  TaskPool& pool = pools_[static_cast<size_t>(found->work)];
  if (pool.num_waiting() >= kMaxWaiting) {
    return exchange->fail(from_refusal(
        {503, "too_many_waiting", "Too many requests of this kind wait; try again later.", 5}));
  }
  const auto call = std::make_shared<Call>();
  call->request = request;
  call->address = address;
  call->has_tls = facts_.has_tls || is_behind_tls;
  call->last_segment = path.substr(path.rfind('/') + 1);
  const bool is_report = found->work == Work::kReport;
  if (is_report) {
    if (const ApiStatus status = begin_report(*found, *call); !status) {
      return exchange->fail(status.error());
    }
  }
  pool.run([this, is_report, found, held = released_by(post_, exchange), call] {
    auto response = std::make_shared<ApiResult<net::HttpResponse>>(run(*found, *call));
    post_([this, is_report, call, exchange = held, response] {
      if (is_report) reported_.erase(call->identity.account.id);
      if (!*response) return exchange->fail(response->error());
      exchange->respond(std::move(**response));
    });
  });
}

ApiResult<net::HttpResponse> PageApi::run(const Entry& entry, Call& call) const {
  const bool is_admitted = entry.work == Work::kReport;  // begin_report()
  if (service_ != nullptr && !is_admitted) {
    US_ASSIGN(call.identity, admit(*service_, call.request, entry.route));
  }
  if (!call.request.body.empty()) {
    US_ASSIGN(call.body, parse_json_object(call.request.body));
  }
  return (this->*entry.handler)(call);
}

// An account has one report at a time, so that those of one keep nobody else's waiting.
ApiStatus PageApi::begin_report(const Entry& entry, Call& call) {
  US_ASSIGN(call.identity, admit(*service_, call.request, entry.route));
  if (reported_.insert(call.identity.account.id).second) return {};
  return tl::unexpected(
      from_refusal({429, "report_under_way", "Another report of the account is under way.", 1}));
}

// --- Sessions ---

Json PageApi::session_json(const access::Account& account, std::string_view session_token) const {
  Json json = {{"offer", service_ != nullptr},
               {"account", nullptr},
               {"csrf_token", ""},
               {"standing", nullptr},
               {"models", models_json(facts_.models, service_ ? &service_->config() : nullptr)},
               {"max_model_len", facts_.max_model_len}};
  if (service_ == nullptr) return json;
  json.update(offer_json(service_->config(), service_->now()));
  json["now"] = time_json(service_->now());
  if (account.id == 0) return json;
  json["account"] = {{"name", account.name}, {"is_administrator", account.is_administrator}};
  json["csrf_token"] = access::csrf_token_of(session_token);
  const auto standing = service_->gate().standing(account);
  if (standing) json["standing"] = standing_json(service_->gate(), *standing);
  return json;
}

ApiResult<net::HttpResponse> PageApi::session(const Call& call) const {
  const std::string_view token = presented_session(call.request);
  access::Account account;
  if (service_ != nullptr && !token.empty()) {
    account = service_->accounts().find_session(token).value_or(access::Account());
  }
  return page_response(200, session_json(account, token));
}

ApiResult<net::HttpResponse> PageApi::log_in(const Call& call) const {
  US_TRY(check_fields(call.body, {"name", "password"}));
  const Fields fields(call.body);
  US_ASSIGN(const std::string name, required_string(fields, "name"));
  US_ASSIGN(const std::string password, required_string(fields, "password"));
  US_ASSIGN(const access::Login login,
            allowed(service_->accounts().log_in(name, password, call.address,
                                                presented_session(call.request))));
  net::HttpResponse response = page_response(200, session_json(login.account, login.session_token));
  response.headers.push_back(
      {"Set-Cookie",
       session_cookie(login.session_token, service_->config().session_lifetime, call.has_tls)});
  return response;
}

ApiResult<net::HttpResponse> PageApi::log_out(const Call& call) const {
  US_TRY(check_fields(call.body, {}));
  const Status status = service_->accounts().log_out(presented_session(call.request));
  if (!status) return tl::unexpected(from_refusal(status.error()));
  return net::HttpResponse{
      204, {{"Set-Cookie", session_cookie("", std::chrono::hours(0), call.has_tls)}}, ""};
}

// --- Applications ---

ApiResult<net::HttpResponse> PageApi::apply(const Call& call) const {
  US_TRY(check_fields(call.body, {"name", "password", "statement"}));
  const Fields fields(call.body);
  access::Submission submission;
  submission.address = call.address;
  US_ASSIGN(submission.name, required_string(fields, "name"));
  US_ASSIGN(submission.password, required_string(fields, "password"));
  US_TRY(fields.read("statement", &submission.statement));
  US_ASSIGN(const access::Application made, allowed(service_->applications().submit(submission)));
  return page_response(201, {{"application", application_json(made)}});
}

ApiResult<net::HttpResponse> PageApi::application(const Call& call) const {
  const access::Account& account = call.identity.account;
  US_ASSIGN(const auto found, allowed(service_->applications().find(account.id)));
  US_ASSIGN(const access::Standing standing, allowed(service_->gate().standing(account)));
  return page_response(200, {{"application", found ? application_json(*found) : Json()},
                             {"standing", standing_json(service_->gate(), standing)}});
}

// --- The chat's queue ---

ApiResult<net::HttpResponse> PageApi::chat_state(const Call& call) const {
  const auto state = service_->chat().state(call.identity.account.id);
  return page_response(200, chat_json(state, service_->now()));
}

ApiResult<net::HttpResponse> PageApi::join_chat(const Call& call) const {
  US_TRY(check_fields(call.body, {}));
  US_ASSIGN(const access::ChatState state,
            allowed(service_->chat().join(call.identity.account.id)));
  US_TRY(stored(service_->chat().save()));  // a place that was told of outlives a killed server
  return page_response(200, chat_json(state, service_->now()));
}

ApiResult<net::HttpResponse> PageApi::leave_chat(const Call& call) const {
  US_TRY(check_fields(call.body, {}));
  service_->chat().leave(call.identity.account.id);
  return chat_state(call);
}

}  // namespace ultraspeed::server
