// Server-sent events (WHATWG HTML, 9.2.5): the text of one event, appended to a buffer.
#pragma once

#include <string>
#include <string_view>

namespace ultraspeed::net {

inline constexpr std::string_view kSseContentType = "text/event-stream";
inline constexpr std::string_view kSsePing = ": ping\n\n";  // a comment: clients ignore it

// "data: LINE\n" for every line of `data` and the empty line that ends the event. LF, CR LF and CR
// end a line, as they do for the reader.
void append_sse_event(std::string& out, std::string_view data);
// The same with "event: NAME" before it. REQUIRES: name is one line.
void append_sse_event(std::string& out, std::string_view name, std::string_view data);

}  // namespace ultraspeed::net
