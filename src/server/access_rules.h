// Who may use the API. With keys, whoever sends one; without, whoever reaches the server, which is
// then bound to this machine alone and answers to its names alone: a page of a hostile site, whose
// name an attacker has pointed at 127.0.0.1, sends the site's name as Host (DNS rebinding). Pages
// of other sites may ask for nothing that has an effect unless their origin is listed (CORS).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"
#include "net/http_server.h"
#include "server/api_error.h"

namespace ultraspeed::server {

struct AccessOptions {
  std::vector<std::string> api_keys;      // not empty: every route but those of health needs one
  bool has_accounts = false;              // access/ says who may do what; excludes api_keys
  bool is_insecure = false;               // without keys: any address may be bound, any Host named
  std::vector<std::string> cors_origins;  // whose pages may call: "https://chat.example", or "*"
  std::vector<net::AddressRange> trusted_proxies;  // that say for whom they ask (X-Forwarded-For)
  bool trusts_socket_file = false;                 // so does whoever connects by a socket file
  uint32_t max_concurrent_per_key = 0;             // generations of a key, or of an address; 0: any
};

// "*", "null" or an origin as browsers send it.
bool is_cors_origin(std::string_view text);

// The key that a request brings in any of the headers that clients use; empty: none.
std::string_view presented_key(const net::HttpRequest& request);

// Whether a server may listen on `address` (numeric; empty: a file), which `host` has given.
Status check_binding(const AccessOptions& options, std::string_view host, std::string_view address);

class AccessRules {
 public:
  // `host`: what the server was told to bind, a name or an address.
  AccessRules(AccessOptions options, std::string host)
      : options_(std::move(options)), host_(std::move(host)) {}

  // The address of who asked, as far as proxies may be believed; "unix": by a socket file.
  std::string client_address(const net::HttpRequest& request) const;
  // Whether a proxy that may be believed says that the client speaks TLS with it
  // (X-Forwarded-Proto).
  bool is_behind_tls(const net::HttpRequest& request) const;
  // Whose requests count as one client's: those with a key, or without keys from an address.
  // REQUIRES: check() has let it pass.
  std::string client(const net::HttpRequest& request) const;

  // 403: not for this host, or not for that page; 401: without a key that `needs_key` asks for.
  ApiStatus check(const net::HttpRequest& request, bool needs_key) const;

  // With which a browser shows the answer to the page that asked, if it may see it.
  std::vector<net::Header> cors_headers(const net::HttpRequest& request) const;
  // Whether a browser asks for leave to send a request, which check() has let pass.
  static bool is_preflight(const net::HttpRequest& request);
  static net::HttpResponse preflight_response(const net::HttpRequest& request);

 private:
  bool is_listed(std::string_view origin) const;
  bool is_own_host(std::string_view host_header) const;
  bool is_open() const { return options_.api_keys.empty() && !options_.has_accounts; }
  bool is_trusted(std::string_view address) const;
  std::optional<size_t> find_key(const net::HttpRequest& request) const;

  const AccessOptions options_;
  const std::string host_;
};

}  // namespace ultraspeed::server
