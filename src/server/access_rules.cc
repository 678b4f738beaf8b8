#include "server/access_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "net/http_message.h"

namespace ultraspeed::server {
namespace {

constexpr std::string_view kAnyOrigin = "*";
constexpr std::string_view kSocketFile = "unix";  // instead of an address
constexpr const char* kExposedHeaders =
    "X-Request-Id, request-id, Retry-After, x-ratelimit-limit-requests, "
    "x-ratelimit-remaining-requests, "
    "anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining";
constexpr const char* kPreflightAgeS = "86400";
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

// Of "name:port", "1.2.3.4:port" or "[::1]:port"; "::1" has none.
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, std::max<size_t>(host.find(']'), 1) - 1);
  const size_t colon = host.find(':');
  return host.rfind(':') == colon ? host.substr(0, colon) : host;
}

std::string_view without_spaces(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(" \t"), text.size());
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

// Whether it would do more than read: a page of another site can have a browser send that, too.
bool has_effect(const net::HttpRequest& request) {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  return !reads || !request.header("Upgrade").empty();
}

bool is_same_origin(std::string_view origin, std::string_view host) {
  const size_t scheme = origin.find("://");
  return scheme != std::string_view::npos && !host.empty() &&
         net::equals_ignoring_case(origin.substr(scheme + 3), host);
}

std::string_view bearer_token(const net::HttpRequest& request) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view header = request.header("Authorization");
  const bool is_bearer = net::equals_ignoring_case(header.substr(0, kBearer.size()), kBearer);
  return is_bearer ? header.substr(kBearer.size()) : std::string_view();
}

}  // namespace

std::string_view presented_key(const net::HttpRequest& request) {
  for (const std::string_view given :
       {bearer_token(request), request.header("x-api-key"), request.header("api-key")}) {
    if (!given.empty()) return given;
  }
  return {};
}

bool is_cors_origin(std::string_view text) {
  if (text == kAnyOrigin || text == "null") return true;
  const size_t scheme = text.find("://");
  return scheme != std::string_view::npos && scheme > 0 && text.size() > scheme + 3 &&
         text.find_first_of("/ *", scheme + 3) == std::string_view::npos;
}

Status check_binding(const AccessOptions& options, std::string_view host,
                     std::string_view address) {
  const bool is_local = address.empty() || net::is_loopback(address);
  if (is_local || !options.api_keys.empty() || options.has_accounts || options.is_insecure) {
    return {};
  }
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

// The place of the key that came with it; in a time that does not depend on which one it is.
std::optional<size_t> AccessRules::find_key(const net::HttpRequest& request) const {
  std::optional<size_t> found;
  for (size_t i = 0; i < options_.api_keys.size(); ++i) {
    for (const std::string_view given :
         {bearer_token(request), request.header("api-key"), request.header("x-api-key")}) {
      if (equals_secret(given, options_.api_keys[i])) found = i;
    }
  }
  return found;
}

bool AccessRules::is_trusted(std::string_view address) const {
  if (address == kSocketFile) return options_.trusts_socket_file;
  const auto& proxies = options_.trusted_proxies;
  return std::any_of(proxies.begin(), proxies.end(),
                     [address](const net::AddressRange& range) { return range.contains(address); });
}

// Each proxy adds whom it talked to at the end. What stands before an address that is not trusted
// may be anybody's invention.
std::string AccessRules::client_address(const net::HttpRequest& request) const {
  std::string chain;
  for (const net::Header& header : request.headers) {
    const bool is_chain = net::equals_ignoring_case(header.name, "X-Forwarded-For");
    if (is_chain) chain += (chain.empty() ? "" : ",") + header.value;
  }
  std::string client = request.peer.empty() ? std::string(kSocketFile) : request.peer;
  std::string_view rest = chain;
  while (!rest.empty() && is_trusted(client)) {
    const size_t comma = rest.rfind(',');
    const std::string_view last = comma == std::string_view::npos ? rest : rest.substr(comma + 1);
    const std::string_view address = without_port(without_spaces(last));
    if (!net::parse_address(address)) break;
    client = address;
    rest = rest.substr(0, comma == std::string_view::npos ? 0 : comma);
  }
  return client;
}

bool AccessRules::is_behind_tls(const net::HttpRequest& request) const {
  const std::string_view peer = request.peer.empty() ? kSocketFile : request.peer;
  return is_trusted(peer) &&
         net::equals_ignoring_case(request.header("X-Forwarded-Proto"), "https");
}

std::string AccessRules::client(const net::HttpRequest& request) const {
  const std::optional<size_t> key = find_key(request);
  return key ? fmt::format("key {}", *key + 1) : client_address(request);
}

bool AccessRules::is_listed(std::string_view origin) const {
  const auto& origins = options_.cors_origins;
  return std::any_of(origins.begin(), origins.end(), [origin](const std::string& listed) {
    return listed == kAnyOrigin || net::equals_ignoring_case(listed, origin);
  });
}

ApiStatus AccessRules::check(const net::HttpRequest& request, bool needs_key) const {
  const auto num_hosts = std::count_if(
      request.headers.begin(), request.headers.end(),
      [](const net::Header& header) { return net::equals_ignoring_case(header.name, "Host"); });
  if (num_hosts > 1) {  // which of them it means others may see otherwise
    return tl::unexpected(from_status(400, "malformed HTTP: more than one Host header"));
  }
  const std::string_view host = request.header("Host");
  const bool is_by_file = request.peer.empty();  // no browser opens a socket file
  if (is_open() && !options_.is_insecure && !is_by_file && !is_own_host(host)) {
    return tl::unexpected(forbidden(
        "host_not_allowed",
        fmt::format("This server has no API key and answers to the names of its own machine alone, "
                    "not to '{}'; ask for http://localhost, or start it with --api-key-file or "
                    "--insecure.",
                    host.substr(0, kMaxShownBytes))));
  }
  const std::string_view origin = request.header("Origin");
  const bool is_foreign = !origin.empty() && !is_same_origin(origin, host) && !is_listed(origin);
  if (is_foreign && has_effect(request)) {
    return tl::unexpected(forbidden(
        "origin_not_allowed",
        fmt::format("Pages of '{}' may not use this server; it allows those that --cors-origin "
                    "names.",
                    origin.substr(0, kMaxShownBytes))));
  }
  const bool is_refused =
      needs_key && !options_.api_keys.empty() && !is_preflight(request) && !find_key(request);
  if (is_refused) return tl::unexpected(unauthorized());
  return {};
}

std::vector<net::Header> AccessRules::cors_headers(const net::HttpRequest& request) const {
  const std::string_view origin = request.header("Origin");
  if (options_.cors_origins.empty()) return {};
  std::vector<net::Header> headers = {{"Vary", "Origin"}};
  if (origin.empty() || !is_listed(origin)) return headers;
  headers.push_back({"Access-Control-Allow-Origin", std::string(origin)});
  headers.push_back({"Access-Control-Expose-Headers", kExposedHeaders});
  return headers;
}

bool AccessRules::is_preflight(const net::HttpRequest& request) {
  return request.method == "OPTIONS" && !request.header("Origin").empty() &&
         !request.header("Access-Control-Request-Method").empty();
}

net::HttpResponse AccessRules::preflight_response(const net::HttpRequest& request) {
  net::HttpResponse response;
  response.status = 204;
  response.headers = {{"Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE"},
                      {"Access-Control-Max-Age", kPreflightAgeS}};
  const std::string_view wanted = request.header("Access-Control-Request-Headers");
  if (!wanted.empty()) {
    response.headers.push_back({"Access-Control-Allow-Headers", std::string(wanted)});
  }
  return response;
}

}  // namespace ultraspeed::server
