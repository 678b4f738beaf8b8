#include "net/sse.h"

namespace ultraspeed::net {

void append_sse_event(std::string& out, std::string_view data) {
  for (;;) {
    const size_t end = data.find_first_of("\r\n");
    out += "data: ";
    out += data.substr(0, end);
    out += '\n';
    if (end == std::string_view::npos) break;
    const bool is_crlf = data.substr(end, 2) == "\r\n";
    data.remove_prefix(end + (is_crlf ? 2 : 1));
  }
  out += '\n';
}

void append_sse_event(std::string& out, std::string_view name, std::string_view data) {
  out += "event: ";
  out += name;
  out += '\n';
  append_sse_event(out, data);
}

}  // namespace ultraspeed::net
