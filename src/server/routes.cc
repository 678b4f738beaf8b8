#include "server/routes.h"

#include <fmt/format.h>

#include <utility>

#include "net/http_message.h"
#include "server/exchange.h"
#include "server/page_api.h"
#include "server/page_files.h"
#include "server/response_routes.h"

namespace ultraspeed::server {
namespace {

// Whether the path is the base's and something behind it.
bool is_below(std::string_view base, std::string_view path) {
  return path.starts_with(base) && path.size() > base.size() + 1 && path[base.size()] == '/';
}

}  // namespace

std::optional<Route> find_route(std::string_view path) {
  if (path == "/health") return Route::kHealth;
  if (path == "/health/ready") return Route::kReady;
  if (path == "/metrics") return Route::kMetrics;
  if (path == "/version") return Route::kVersion;
  if (path == kModelsPath) return Route::kModels;
  if (path == "/v1/completions") return Route::kCompletions;
  if (path == "/v1/chat/completions") return Route::kChatCompletions;
  if (path == kMessagesPath) return Route::kMessages;
  if (path == "/v1/messages/count_tokens") return Route::kCountTokens;
  if (path == "/tokenize") return Route::kTokenize;
  if (path == "/detokenize") return Route::kDetokenize;
  if (path == kResponsesPath) return Route::kResponses;
  if (path == "/v1/responses/input_tokens") return Route::kInputTokens;
  if (path == kPageChatPath) return Route::kPageChat;
  if (path.starts_with(kPageApiPath)) return Route::kPage;
  if (is_below(kModelsPath, path)) return Route::kModel;
  if (is_below(kResponsesPath, path)) {
    const bool has_id = path.size() > kResponsesPath.size() + 1 + kInputItemsPath.size();
    return has_id && path.ends_with(kInputItemsPath) ? Route::kInputItems : Route::kResponse;
  }
  if (is_page_path(path)) return Route::kPageFile;
  return std::nullopt;
}

bool needs_key(std::optional<Route> route) {
  return route != Route::kHealth && route != Route::kReady && route != Route::kPage &&
         route != Route::kPageFile;
}

std::string_view allowed_methods(Route route) {
  switch (route) {
    case Route::kHealth:
    case Route::kReady:
    case Route::kMetrics:
    case Route::kVersion:
    case Route::kModels:
    case Route::kModel:
    case Route::kInputItems:
    case Route::kPageFile:
      return "GET";
    case Route::kResponse:
      return "GET, DELETE";
    default:
      return "POST";
  }
}

bool is_allowed(Route route, std::string_view method) {
  const std::string_view allowed = allowed_methods(route);
  if (allowed == "POST") return method == "POST";
  return method == "GET" || method == "HEAD" || (method == "DELETE" && allowed != "GET");
}

bool reads_prompt(Route route) {
  switch (route) {
    case Route::kCompletions:
    case Route::kChatCompletions:
    case Route::kMessages:
    case Route::kCountTokens:
    case Route::kResponses:
    case Route::kInputTokens:
    case Route::kTokenize:
    case Route::kDetokenize:
    case Route::kPageChat:
      return true;
    default:
      return false;
  }
}

std::string_view query_value(std::string_view target, std::string_view name) {
  size_t begin = target.find('?');
  while (begin != std::string_view::npos) {
    const std::string_view rest = target.substr(begin + 1);
    const size_t end = rest.find('&');
    const std::string_view field = rest.substr(0, end);
    if (field.starts_with(name) && field.substr(name.size()).starts_with('=')) {
      return field.substr(name.size() + 1);
    }
    begin = end == std::string_view::npos ? end : begin + 1 + end;
  }
  return {};
}

bool is_plain(std::string_view encoding) {
  return encoding.empty() || net::equals_ignoring_case(encoding, "identity");
}

ApiError unsupported_encoding(std::string_view encoding) {
  ApiError error;
  error.status = 415;
  error.message = fmt::format("The request's body is encoded as '{}'; send it as it is.", encoding);
  error.code = "unsupported_encoding";
  return error;
}

std::vector<net::Header> rate_limit_headers(bool is_messages, uint32_t limit, uint32_t remaining) {
  if (is_messages) {
    return {{"anthropic-ratelimit-requests-limit", fmt::to_string(limit)},
            {"anthropic-ratelimit-requests-remaining", fmt::to_string(remaining)}};
  }
  return {{"x-ratelimit-limit-requests", fmt::to_string(limit)},
          {"x-ratelimit-remaining-requests", fmt::to_string(remaining)}};
}

ApiError unknown_route(const net::HttpRequest& request) {
  ApiError error;
  error.status = 404;
  error.message = fmt::format("There is no route {} {}.", request.method, request.path());
  error.code = "unknown_url";
  return error;
}

ApiError method_not_allowed(std::string_view method, std::string allowed) {
  ApiError error;
  error.status = 405;
  error.message = fmt::format("This route does not take {}; it takes {}.", method, allowed);
  error.code = "method_not_allowed";
  error.allow = std::move(allowed);
  return error;
}

}  // namespace ultraspeed::server
