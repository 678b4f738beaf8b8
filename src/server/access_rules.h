// Who may use the API. With keys, whoever sends one; without, whoever reaches the server, which is
// then bound to this machine alone and answers to its names alone: a page of a hostile site, whose
// name an attacker has pointed at 127.0.0.1, sends the site's name as Host (DNS rebinding).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/http_server.h"
#include "server/api_error.h"

namespace ultraspeed::server {

struct AccessOptions {
  std::vector<std::string> api_keys;  // not empty: every route but those of health needs one
  bool is_insecure = false;           // without keys: any address may be bound, any Host named
};

// Whether a server may listen on `address` (numeric; empty: a file), which `host` has given.
Status check_binding(const AccessOptions& options, std::string_view host, std::string_view address);

class AccessRules {
 public:
  // `host`: what the server was told to bind, a name or an address.
  AccessRules(AccessOptions options, std::string host)
      : options_(std::move(options)), host_(std::move(host)) {}

  // 403: not for this host; 401: without a key that `needs_key` asks for.
  ApiStatus check(const net::HttpRequest& request, bool needs_key) const;

 private:
  bool is_own_host(std::string_view host_header) const;
  bool has_key(const net::HttpRequest& request) const;

  const AccessOptions options_;
  const std::string host_;
};

}  // namespace ultraspeed::server
