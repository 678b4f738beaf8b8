#include "net/sse.h"

#include <algorithm>
#include <utility>

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

Status SseParser::push(std::string_view bytes, std::vector<SseEvent>* events) {
  while (!bytes.empty()) {
    if (std::exchange(is_after_cr_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const size_t end = std::min(bytes.find_first_of("\r\n"), bytes.size());
    if (event_.data.size() + event_.type.size() + line_.size() + end > max_event_bytes_) {
      return make_error(ErrorCode::kInvalidData, "an event of the stream has more than {} bytes",
                        max_event_bytes_);
    }
    line_ += bytes.substr(0, end);
    if (end == bytes.size()) break;
    is_after_cr_ = bytes[end] == '\r';
    take_line(line_, events);
    line_.clear();
    bytes.remove_prefix(end + 1);
  }
  return {};
}

void SseParser::take_line(std::string_view line, std::vector<SseEvent>* events) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (std::exchange(is_first_line_, false) && line.starts_with(kByteOrderMark)) {
    line.remove_prefix(kByteOrderMark.size());
  }
  if (line.empty()) {
    SseEvent event = std::exchange(event_, {});
    if (std::exchange(has_data_, false)) events->push_back(std::move(event));
    return;
  }
  const size_t colon = std::min(line.find(':'), line.size());
  const std::string_view field = line.substr(0, colon);  // empty for a comment
  std::string_view value = line.substr(std::min(colon + 1, line.size()));
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    if (std::exchange(has_data_, true)) event_.data += '\n';
    event_.data += value;
  } else if (field == "event") {
    event_.type = value;
  }
}

}  // namespace ultraspeed::net
