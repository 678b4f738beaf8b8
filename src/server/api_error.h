// Errors as OpenAI's API reports them: an HTTP status and {"error": {message, type, param, code}},
// and as Anthropic's does, {"type": "error", "error": {type, message}, "request_id"}.
// The one place that maps the project's error codes to HTTP.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "base/result.h"
#include "net/http_server.h"

namespace ultraspeed::server {

struct ApiError {
  unsigned status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;           // the request's field, or empty
  std::string code;            // or empty
  uint32_t retry_after_s = 0;  // 0: no Retry-After
  std::string allow;           // 405: the methods that the route takes
};

template <class T>
using ApiResult = tl::expected<T, ApiError>;
using ApiStatus = ApiResult<void>;

// 400: a missing or invalid field.
tl::unexpected<ApiError> invalid_field(std::string param, std::string message);
// 400: a field that is well-formed but not implemented.
tl::unexpected<ApiError> unsupported_field(std::string param, std::string message);
ApiError model_not_found(std::string_view model);  // 404
// 400. is_at_least: the prompt may have more tokens, which were not counted.
ApiError context_length_exceeded(size_t prompt_tokens, size_t max_context,
                                 bool is_at_least = false);
ApiError draining();                                 // 503
ApiError stopping();                                 // 503: of an answer under way
ApiError too_many_at_once(uint32_t max_per_client);  // 429
ApiError cannot_be_paid(size_t num_answers);         // 402

// A conversation that the server is to hold. Anthropic's clients know the code (a detail in their
// form of errors) and send the whole conversation instead.
inline constexpr std::string_view kThreadUnsupported = "thread_unsupported_request";

// Of an error that the engine or the text layer returned.
ApiError from_error(const Error& error);
// Of a request refused below this layer, by status alone.
ApiError from_status(unsigned status, std::string_view message);

std::string error_json(const ApiError& error);
// Anthropic's form; its types follow from the status.
std::string messages_error_json(const ApiError& error, std::string_view request_id);
net::HttpResponse error_response(const ApiError& error);
net::HttpResponse messages_error_response(const ApiError& error, std::string_view request_id);

}  // namespace ultraspeed::server
