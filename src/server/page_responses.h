// Answers of the page's routes.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/json_fields.h"
#include "server/offer.h"
#include "server/routes.h"

namespace ultraspeed::server {

inline constexpr uint32_t kMaxListed = 200;  // of a list at once

inline ApiResult<int64_t> parse_id(std::string_view name, std::string_view text) {
  int64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error == std::errc() && end == text.data() + text.size() && id >= 0) return id;
  return invalid_field(std::string(name), fmt::format("'{}' is no number: '{}'.", name, text));
}

// Of lists whose newest entries come first: those before this id are asked for.
inline ApiResult<std::optional<int64_t>> id_before(const net::HttpRequest& request) {
  const std::string_view text = query_value(request.target, "before");
  if (text.empty()) return std::nullopt;
  US_ASSIGN(const int64_t id, parse_id("before", text));
  return id;
}

// What to ask for next; null: that was all.
template <class Entry>
Json next_of(const std::vector<Entry>& list) {
  return list.size() < kMaxListed ? Json() : Json(list.back().id);
}

inline net::HttpResponse page_response(unsigned status, const Json& json) {
  return {status,
          {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}},
          json.dump(-1, ' ', false, Json::error_handler_t::replace)};
}

// Pages of other sites can neither read it nor have it sent along.
inline std::string session_cookie(std::string_view token, std::chrono::seconds lifetime,
                                  bool is_for_tls) {
  return fmt::format("{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{}", kSessionCookie,
                     token, lifetime.count(), is_for_tls ? "; Secure" : "");
}

template <class T>
ApiResult<T> allowed(access::Answer<T> answer) {
  if (!answer) return tl::unexpected(from_refusal(answer.error()));
  if constexpr (!std::is_void_v<T>) return *std::move(answer);
  return {};
}

template <class T>
ApiResult<T> stored(Result<T> result) {
  if (!result) return tl::unexpected(from_refusal(result.error()));
  if constexpr (!std::is_void_v<T>) return *std::move(result);
  return {};
}

}  // namespace ultraspeed::server
