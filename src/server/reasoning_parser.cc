#include "server/reasoning_parser.h"

#include <utility>

namespace ultraspeed::server {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";

bool is_space(char c) {
  return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

}  // namespace

ChatDelta ReasoningParser::push(std::string_view text) {
  ChatDelta delta;
  for (size_t i = 0; i < text.size(); ++i) {
    if (state_ == State::kContent) {
      delta.content += text.substr(i);
      break;
    }
    if (state_ == State::kStart) {
      push_start(text[i], &delta);
    } else {
      push_reasoning(text[i], &delta);
    }
  }
  return delta;
}

void ReasoningParser::push_start(char c, ChatDelta* delta) {
  held_ += c;
  if (c == kOpen[matched_]) {
    if (++matched_ < kOpen.size()) return;
    held_.clear();
    matched_ = 0;
    state_ = State::kReasoning;
  } else if (matched_ > 0 || !is_space(c)) {
    delta->content += std::exchange(held_, {});
    state_ = State::kContent;
  }
}

// '<' occurs in the marker only at its begin, so that a mismatch can restart there alone.
void ReasoningParser::push_reasoning(char c, ChatDelta* delta) {
  if (c == kClose[matched_]) {
    if (++matched_ < kClose.size()) return;
    matched_ = 0;
    state_ = State::kContent;
    return;
  }
  delta->reasoning += kClose.substr(0, matched_);
  matched_ = c == kClose[0] ? 1 : 0;
  if (matched_ == 0) delta->reasoning += c;
}

ChatDelta ReasoningParser::finish() {
  ChatDelta delta;
  if (state_ == State::kStart) delta.content = std::exchange(held_, {});
  if (state_ == State::kReasoning) delta.reasoning = kClose.substr(0, matched_);
  matched_ = 0;
  state_ = State::kContent;
  return delta;
}

}  // namespace ultraspeed::server
