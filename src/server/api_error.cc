#include "server/api_error.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace ultraspeed::server {
namespace {

constexpr uint32_t kRetryAfterS = 2;
constexpr std::string_view kServerError = "server_error";

ApiError make(unsigned status, std::string_view type, std::string message, std::string code) {
  ApiError error;
  error.status = status;
  error.message = std::move(message);
  error.type = type;
  error.code = std::move(code);
  return error;
}

std::string_view messages_error_type(unsigned status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

net::HttpResponse response_of(const ApiError& error, std::string body) {
  net::HttpResponse response;
  response.status = error.status;
  response.headers.push_back({"Content-Type", "application/json"});
  if (error.retry_after_s > 0) {
    response.headers.push_back({"Retry-After", fmt::to_string(error.retry_after_s)});
  }
  if (!error.allow.empty()) response.headers.push_back({"Allow", error.allow});
  if (error.status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  response.body = std::move(body);
  return response;
}

nlohmann::ordered_json string_or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

}  // namespace

tl::unexpected<ApiError> invalid_field(std::string param, std::string message) {
  ApiError error;
  error.message = std::move(message);
  error.param = std::move(param);
  error.code = "invalid_value";
  return tl::unexpected(std::move(error));
}

tl::unexpected<ApiError> unsupported_field(std::string param, std::string message) {
  ApiError error;
  error.message = std::move(message);
  error.param = std::move(param);
  error.code = "unsupported_value";
  return tl::unexpected(std::move(error));
}

ApiError model_not_found(std::string_view model) {
  ApiError error =
      make(404, "invalid_request_error",
           fmt::format("The model '{}' does not exist; GET /v1/models lists the models "
                       "of this server.",
                       model),
           "model_not_found");
  error.param = "model";
  return error;
}

ApiError context_length_exceeded(size_t prompt_tokens, size_t max_context, bool is_at_least) {
  return make(
      400, "invalid_request_error",
      fmt::format("The prompt has {}{} tokens; this model's context of {} tokens must hold the "
                  "prompt and at least one more. Shorten the prompt.",
                  is_at_least ? "at least " : "", prompt_tokens, max_context),
      "context_length_exceeded");
}

ApiError draining() {
  ApiError error =
      make(503, kServerError, "The server is shutting down and takes no new requests.", "draining");
  error.retry_after_s = kRetryAfterS;
  return error;
}

ApiError stopping() {
  ApiError error = draining();
  error.message = "The server is stopping and has broken this answer off.";
  return error;
}

ApiError too_many_at_once(uint32_t max_per_client) {
  ApiError error = make(429, "rate_limit_error",
                        fmt::format("You have {} requests under way, as many as a client may; try "
                                    "again when one has ended.",
                                    max_per_client),
                        "rate_limit_exceeded");
  error.retry_after_s = kRetryAfterS;
  return error;
}

ApiError cannot_be_paid(size_t num_answers) {
  return make(
      402, "permission_error",
      fmt::format("The key's budget or allowance does not pay for a token of each of the {} "
                  "answers; ask for fewer.",
                  num_answers),
      "budget_used_up");
}

ApiError from_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInvalidData:
      return make(400, "invalid_request_error", error.message, "invalid_value");
    case ErrorCode::kUnsupported:
      return make(400, "invalid_request_error", error.message, "unsupported_value");
    case ErrorCode::kOutOfMemory: {
      ApiError busy = make(429, "rate_limit_error", error.message, "queue_full");
      busy.retry_after_s = kRetryAfterS;
      return busy;
    }
    case ErrorCode::kCancelled:
      return stopping();
    case ErrorCode::kNotFound:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      break;
  }
  return make(500, kServerError, error.message, "engine_error");
}

ApiError from_status(unsigned status, std::string_view message) {
  ApiError error =
      make(status, status < 500 ? "invalid_request_error" : kServerError, std::string(message), {});
  if (status == 503) error.retry_after_s = kRetryAfterS;
  return error;
}

std::string error_json(const ApiError& error) {
  return dump({{"error",
                {{"message", error.message},
                 {"type", error.type},
                 {"param", string_or_null(error.param)},
                 {"code", string_or_null(error.code)}}}});
}

std::string messages_error_json(const ApiError& error, std::string_view request_id) {
  nlohmann::ordered_json json = {
      {"type", "error"},
      {"error", {{"type", messages_error_type(error.status)}, {"message", error.message}}}};
  if (error.code == kThreadUnsupported) {
    json["error"]["details"] = {{"error_code", error.code}, {"unsupported", {error.param}}};
  }
  if (!request_id.empty()) json["request_id"] = request_id;
  return dump(json);
}

net::HttpResponse error_response(const ApiError& error) {
  return response_of(error, error_json(error));
}

net::HttpResponse messages_error_response(const ApiError& error, std::string_view request_id) {
  return response_of(error, messages_error_json(error, request_id));
}

}  // namespace ultraspeed::server
