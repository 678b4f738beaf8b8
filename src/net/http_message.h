// The bytes of an HTTP/1.x response head, and small rules of the protocol (RFC 9110, RFC 9112).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/http_server.h"

namespace ultraspeed::net {

bool equals_ignoring_case(std::string_view a, std::string_view b);

std::string_view reason_phrase(unsigned status);

struct ResponseFraming {
  bool is_http_1_0 = false;
  bool keep_alive = true;
  bool is_chunked = false;
  bool has_length = false;
  size_t content_length = 0;
};

// Status line, the given headers (control characters in a value become '?'), framing, empty line.
std::string response_head(unsigned status, const std::vector<Header>& headers,
                          const ResponseFraming& framing);

// Appends one chunk of the chunked transfer coding. REQUIRES: bytes is not empty.
void append_chunk(std::string& out, std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace ultraspeed::net
