#include "server/access_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "net/address.h"
#include "net/http_message.h"

namespace ultraspeed::server {
namespace {

constexpr size_t kMaxShownBytes = 100;  // of a header, in an error

ApiError unauthorized() {
  ApiError error;
  error.status = 401;
  error.message = "The API key is missing or wrong; send 'Authorization: Bearer KEY'.";
  error.code = "invalid_api_key";
  return error;
}

ApiError forbidden(std::string code, std::string message) {
  ApiError error;
  error.status = 403;
  error.message = std::move(message);
  error.code = std::move(code);
  return error;
}

// In a time that depends on what was given alone.
bool equals_secret(std::string_view given, std::string_view secret) {
  unsigned difference = given.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned>(given[i] ^ secret[i % secret.size()]);
  }
  return difference == 0;
}

// Of "name:port", "1.2.3.4:port" or "[::1]:port".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, std::max<size_t>(host.find(']'), 1) - 1);
  return host.substr(0, host.find(':'));
}

}  // namespace

Status check_binding(const AccessOptions& options, std::string_view host,
                     std::string_view address) {
  const bool is_local = address.empty() || net::is_loopback(address);
  if (is_local || !options.api_keys.empty() || options.is_insecure) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "--host {}: others could use this server, which has no API key; give one with "
                    "--api-key-file or --api-key, listen on 127.0.0.1, or say --insecure",
                    host);
}

bool AccessRules::is_own_host(std::string_view host_header) const {
  const std::string_view host = without_port(host_header);
  return host_header.empty() ||  // a browser always sends it
         net::is_loopback(host) || net::equals_ignoring_case(host, "localhost") ||
         net::equals_ignoring_case(host, host_);
}

bool AccessRules::has_key(const net::HttpRequest& request) const {
  constexpr std::string_view kBearer = "Bearer ";
  std::string_view bearer = request.header("Authorization");
  bearer = bearer.starts_with(kBearer) ? bearer.substr(kBearer.size()) : std::string_view();
  bool is_found = false;
  for (const std::string& key : options_.api_keys) {
    for (const std::string_view given :
         {bearer, request.header("api-key"), request.header("x-api-key")}) {
      is_found |= equals_secret(given, key);
    }
  }
  return is_found;
}

ApiStatus AccessRules::check(const net::HttpRequest& request, bool needs_key) const {
  if (!options_.api_keys.empty()) {
    if (needs_key && !has_key(request)) return tl::unexpected(unauthorized());
    return {};
  }
  const std::string_view host = request.header("Host");
  if (options_.is_insecure || is_own_host(host)) return {};
  return tl::unexpected(forbidden(
      "host_not_allowed",
      fmt::format("This server has no API key and answers to the names of its own machine alone, "
                  "not to '{}'; ask for http://localhost, or start it with --api-key-file or "
                  "--insecure.",
                  host.substr(0, kMaxShownBytes))));
}

}  // namespace ultraspeed::server
