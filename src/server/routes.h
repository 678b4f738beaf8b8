// The routes: which path leads where, and what may be asked there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/http_server.h"
#include "server/api_error.h"

namespace ultraspeed::server {

inline constexpr std::string_view kModelsPath = "/v1/models";
inline constexpr std::string_view kInputItemsPath = "/input_items";  // behind a response's path

enum class Route {
  kHealth,
  kReady,
  kMetrics,
  kVersion,
  kModels,
  kModel,
  kCompletions,
  kChatCompletions,
  kMessages,
  kCountTokens,
  kResponses,
  kResponse,
  kInputItems,
  kInputTokens,
  kTokenize,
  kDetokenize,
  kPageFile,  // of the page itself
  kPageChat,  // chat completions in a session of the page
  kPage,      // the page's own: PageApi knows them
};

std::optional<Route> find_route(std::string_view path);

bool needs_key(std::optional<Route> route);  // where the server has keys
bool reads_prompt(Route route);              // and so takes one of its client's places
// The methods that a route takes, as an Allow header lists them.
std::string_view allowed_methods(Route route);
bool is_allowed(Route route, std::string_view method);

// The value of a field of the target's query, or empty. Ids and days need no percent-decoding.
std::string_view query_value(std::string_view target, std::string_view name);

// Of a body, as its Content-Encoding names it.
bool is_plain(std::string_view encoding);

ApiError unsupported_encoding(std::string_view encoding);  // 415
// How many more requests may come, as clients of OpenAI or Anthropic look for it.
std::vector<net::Header> rate_limit_headers(bool is_messages, uint32_t limit, uint32_t remaining);
ApiError unknown_route(const net::HttpRequest& request);
ApiError method_not_allowed(std::string_view method, std::string allowed);

}  // namespace ultraspeed::server
