// What the fuzz targets of request parsers have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "server/chat_request.h"

namespace ultraspeed::server {

inline RequestDefaults fuzz_defaults() {
  RequestDefaults defaults;
  defaults.model = "m";
  defaults.vocab_size = 100;
  return defaults;
}

inline std::string_view fuzz_body(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline void check_error(const ApiError& error) {
  US_CHECK(error.status == 400 || error.status == 404, "status {}", error.status);
  US_CHECK(!error.message.empty() && !error.code.empty(), "an error without a sentence");
  US_CHECK(Json::accept(error_json(error)), "the error's JSON is broken");
}

// A chat request that the rest of the server may rely on, or an error that can be sent.
inline void check_chat_request(const ApiResult<ChatRequest>& request) {
  if (!request) return check_error(request.error());
  const auto& sampling = request->generation.params.sampling;
  US_CHECK(sampling.temperature >= 0 && sampling.temperature <= 2, "{}", sampling.temperature);
  US_CHECK(sampling.top_p > 0 && sampling.top_p <= 1, "{}", sampling.top_p);
  for (const auto& [id, bias] : sampling.logit_bias) US_CHECK(id >= 0 && id < 100, "{}", id);
  US_CHECK(request->prompt.messages.is_array() && !request->prompt.messages.empty(), "no messages");
  for (const Json& message : request->prompt.messages) {
    US_CHECK(message.is_object() && message["role"].is_string(), "a message without a role");
    US_CHECK(message["role"] != "developer", "a role that templates do not know");
  }
}

}  // namespace ultraspeed::server
