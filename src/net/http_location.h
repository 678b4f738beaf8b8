// Where a request goes, and where a redirection sends it (RFC 9110, section 10.2.2).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "net/http_client.h"

namespace ultraspeed::net {

struct HttpLocation {
  HttpUrl server;      // without a path
  std::string target;  // path and query, beginning with '/'
};

// What a Location header of an answer from `from` means: a URL, or a part of one. Its fragment is
// dropped. Errors: kInvalidData for what is no http or https URL, or has characters that no URL
// has.
Result<HttpLocation> follow(const HttpLocation& from, std::string_view location);

// Equal scheme, host and port: what may see the same secrets.
bool is_same_origin(const HttpUrl& a, const HttpUrl& b);

enum class Slashes { kKeep, kEncode };

// For a path of a target: all but letters, digits and "-._~" as %XX.
std::string percent_encoded(std::string_view text, Slashes slashes);

}  // namespace ultraspeed::net
