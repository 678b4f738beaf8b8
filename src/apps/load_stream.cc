#include "apps/load_stream.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <utility>

#include "net/http_message.h"

namespace ultraspeed::apps {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMaxErrorBytes = 4096;
constexpr size_t kMaxTextBytes = 200;

bool is_text(dom::element object, std::string_view key) {
  std::string_view text;
  return object[key].get(text) == simdjson::SUCCESS && !text.empty();
}

// Whether a choice of a chunk brings anything; the first of a chat names the role alone.
bool has_output(dom::element choice) {
  if (is_text(choice, "text")) return true;
  dom::element delta;
  if (choice["delta"].get(delta) != simdjson::SUCCESS) return false;
  dom::array tool_calls;
  const bool has_tool_calls =
      delta["tool_calls"].get(tool_calls) == simdjson::SUCCESS && tool_calls.size() > 0;
  return has_tool_calls || is_text(delta, "content") || is_text(delta, "reasoning_content") ||
         is_text(delta, "reasoning");
}

// Of {"error": {"message": ..}} or {"error": "..."}; nullopt: there is none.
std::optional<std::string> error_message(dom::element root) {
  dom::element error;
  if (root["error"].get(error) != simdjson::SUCCESS || error.is_null()) return std::nullopt;
  std::string_view message;
  if (error.get(message) == simdjson::SUCCESS) return std::string(message);
  if (error["message"].get(message) == simdjson::SUCCESS) return std::string(message);
  return simdjson::minify(error);
}

std::string failure_kind(net::RequestFailure failure) {
  switch (failure) {
    case net::RequestFailure::kConnect:
      return "no connection";
    case net::RequestFailure::kTimeout:
      return "timeout";
    case net::RequestFailure::kLost:
      return "connection lost";
    case net::RequestFailure::kMalformed:
      return "malformed HTTP";
  }
  return "unknown";
}

}  // namespace

struct StreamReader::Json {
  dom::parser parser;
};

StreamReader::StreamReader(RequestSample* sample, std::function<void()> on_over)
    : sample_(*sample), on_over_(std::move(on_over)), json_(std::make_unique<Json>()) {}

StreamReader::~StreamReader() = default;

void StreamReader::on_head(unsigned status, const std::vector<net::Header>& headers) {
  status_ = status;
  for (const net::Header& header : headers) {
    const bool is_type = net::equals_ignoring_case(header.name, "Content-Type");
    if (!is_type || header.value.starts_with(net::kSseContentType)) continue;
    if (status == 200) status_ = 0;  // not the stream that was asked for
  }
}

bool StreamReader::on_body(std::string_view bytes) {
  const double at_s = now_s();
  if (status_ != 200) {
    error_body_ += bytes.substr(0, kMaxErrorBytes - std::min(error_body_.size(), kMaxErrorBytes));
    return true;
  }
  events_.clear();
  if (const Status status = parser_.push(bytes, &events_); !status) {
    return fail("malformed event", status.error().message);
  }
  for (const net::SseEvent& event : events_) {
    take_event(event.data, at_s);
    if (!sample_.failure.empty()) return false;
  }
  return true;
}

void StreamReader::take_event(const std::string& data, double at_s) {
  if (is_done_) return;
  if (data == "[DONE]") {
    is_done_ = true;
    return;
  }
  dom::element root;
  if (json_->parser.parse(data).get(root) != simdjson::SUCCESS || !root.is_object()) {
    fail("malformed event", "not a JSON object: " + short_text(data));
    return;
  }
  if (const auto message = error_message(root)) {
    fail("error event", *message);
    return;
  }
  dom::array choices;
  if (root["choices"].get(choices) == simdjson::SUCCESS) {
    const auto any = [&](auto is) { return std::any_of(choices.begin(), choices.end(), is); };
    if (any(has_output)) sample_.event_s.push_back(at_s);
    if (any(has_output) || any([](dom::element c) { return is_text(c, "finish_reason"); })) {
      sample_.last_s = at_s;
    }
  }
  dom::element usage;
  if (root["usage"].get(usage) == simdjson::SUCCESS && usage.is_object()) {
    has_usage_ = usage["completion_tokens"].get(sample_.tokens) == simdjson::SUCCESS;
    if (usage["prompt_tokens"].get(sample_.prompt_tokens) != simdjson::SUCCESS) {
      sample_.prompt_tokens = 0;
    }
  }
  double accepted_length = 0;
  const auto timings = root["timings"]["accepted_length"];
  if (timings.get(accepted_length) == simdjson::SUCCESS && accepted_length > 0) {
    sample_.accepted_length = accepted_length;
  }
}

void StreamReader::on_end() {
  sample_.end_s = now_s();
  if (status_ != 200) {
    dom::element root;
    std::optional<std::string> message;
    if (json_->parser.parse(error_body_).get(root) == simdjson::SUCCESS) {
      message = error_message(root);
    }
    fail(status_ == 0 ? "no event stream" : fmt::format("HTTP {}", status_),
         message.value_or(short_text(error_body_)));
  } else if (!is_done_) {
    fail("cut stream", "the stream ended without [DONE]");
  } else if (!has_usage_) {
    fail("no usage", "the server does not say how many tokens it sent (stream_options)");
  } else {
    on_over_();
  }
}

void StreamReader::on_failed(net::RequestFailure failure, const std::string& message) {
  fail(failure_kind(failure), message);
}

bool StreamReader::fail(std::string kind, std::string text) {
  sample_.end_s = now_s();
  sample_.failure = std::move(kind);
  sample_.failure_text = short_text(text);
  on_over_();
  return false;
}

std::string short_text(std::string_view text) {
  std::string line(text.substr(0, kMaxTextBytes));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  return text.size() > kMaxTextBytes ? line + "..." : line;
}

}  // namespace ultraspeed::apps
