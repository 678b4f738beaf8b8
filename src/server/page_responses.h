// Answers of the page's routes.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <utility>

#include "server/json_fields.h"
#include "server/offer.h"

namespace ultraspeed::server {

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
