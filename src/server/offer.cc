#include "server/offer.h"

#include <spdlog/spdlog.h>

#include "server/access_rules.h"

namespace ultraspeed::server {
namespace {

// No other method changes anything (RFC 9110, section 9.2.1).
bool has_effect_on_accounts(std::string_view method) {
  return method != "GET" && method != "HEAD";
}

ApiResult<access::Identity> decide(access::Service& service, const access::Question& question) {
  auto identity = service.decide(question);
  if (!identity) return tl::unexpected(from_refusal(identity.error()));
  return *std::move(identity);
}

}  // namespace

access::RouteClass class_of(Route route) {
  switch (route) {
    case Route::kHealth:
    case Route::kReady:
    case Route::kVersion:
    case Route::kPageFile:
      return access::RouteClass::kPublic;
    case Route::kMetrics:
      return access::RouteClass::kMetrics;
    case Route::kPageChat:
      return access::RouteClass::kChat;
    case Route::kCompletions:
    case Route::kChatCompletions:
    case Route::kMessages:
    case Route::kResponses:
      return access::RouteClass::kGenerate;
    default:
      return access::RouteClass::kModels;
  }
}

ApiError from_refusal(const access::Refusal& refusal) {
  if (!refusal.log_detail.empty()) spdlog::error("{}: {}", refusal.code, refusal.log_detail);
  ApiError error;
  error.status = static_cast<unsigned>(refusal.status);
  error.message = refusal.message;
  error.code = refusal.code;
  error.retry_after_s = refusal.retry_after_s;
  if (refusal.status == 401) error.type = "authentication_error";
  if (refusal.status == 402 || refusal.status == 403) error.type = "permission_error";
  if (refusal.status == 429) error.type = "rate_limit_error";
  if (refusal.status >= 500) error.type = "server_error";
  return error;
}

std::string_view presented_session(const net::HttpRequest& request) {
  std::string_view cookies = request.header("Cookie");
  while (!cookies.empty()) {
    const size_t end = cookies.find(';');
    std::string_view cookie = cookies.substr(0, end);
    cookie.remove_prefix(std::min(cookie.find_first_not_of(' '), cookie.size()));
    if (cookie.starts_with(kSessionCookie) &&
        cookie.substr(kSessionCookie.size()).starts_with('=')) {
      return cookie.substr(kSessionCookie.size() + 1);
    }
    cookies.remove_prefix(end == std::string_view::npos ? cookies.size() : end + 1);
  }
  return {};
}

ApiResult<access::Identity> admit(access::Service& service, const net::HttpRequest& request,
                                  access::RouteClass route) {
  return decide(service, {.route = route,
                          .credential = {.api_key = presented_key(request),
                                         .session_token = presented_session(request),
                                         .csrf_token = request.header("X-CSRF-Token")},
                          .has_effect = has_effect_on_accounts(request.method)});
}

ApiResult<access::Identity> admit_to_tier(access::Service& service, std::string_view key,
                                          access::Tier tier) {
  return decide(service, {.route = access::RouteClass::kGenerate,
                          .credential = {.api_key = key, .session_token = {}, .csrf_token = {}},
                          .tier = tier,
                          .has_effect = true});
}

}  // namespace ultraspeed::server
