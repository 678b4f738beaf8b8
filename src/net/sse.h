// Server-sent events (WHATWG HTML, 9.2): the text of one event, appended to a buffer, and a parser
// of streams.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::net {

inline constexpr std::string_view kSseContentType = "text/event-stream";
inline constexpr std::string_view kSsePing = ": ping\n\n";  // a comment: clients ignore it

// "data: LINE\n" for every line of `data` and the empty line that ends the event. LF, CR LF and CR
// end a line, as they do for the reader.
void append_sse_event(std::string& out, std::string_view data);
// The same with "event: NAME" before it. REQUIRES: name is one line.
void append_sse_event(std::string& out, std::string_view name, std::string_view data);

struct SseEvent {
  std::string type;  // of the event field; empty: a message
  std::string data;
};

// Takes a stream in pieces of any size; the events do not depend on where it was cut.
class SseParser {
 public:
  explicit SseParser(size_t max_event_bytes = 16 << 20) : max_event_bytes_(max_event_bytes) {}

  // Appends the events that `bytes` complete. Errors: kInvalidData (an event or a line over the
  // limit); no more may be pushed then.
  Status push(std::string_view bytes, std::vector<SseEvent>* events);

 private:
  void take_line(std::string_view line, std::vector<SseEvent>* events);

  const size_t max_event_bytes_;
  std::string line_;           // as far as it has come
  bool is_after_cr_ = false;   // an LF that comes next belongs to the line before
  bool is_first_line_ = true;  // it may begin with a byte order mark
  bool has_data_ = false;
  SseEvent event_;
};

}  // namespace ultraspeed::net
