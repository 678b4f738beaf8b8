#include "server/chat_parser.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace ultraspeed::server {
namespace {

using Kind = ChatEvent::Kind;

constexpr std::string_view kThinkOpen = "<think>";
constexpr std::string_view kThinkClose = "</think>";
constexpr std::array<std::string_view, 1> kCallCloseTags = {kToolCallClose};

}  // namespace

ChatParser::ChatParser(Options options)
    : options_(std::move(options)),
      state_(options_.starts_in_reasoning ? State::kReasoning : State::kStart),
      call_close_(kCallCloseTags) {
  if (options_.syntax == ToolSyntax::kHarmony) harmony_ = std::make_unique<HarmonyParser>(options_);
}

std::vector<ChatEvent> ChatParser::push(std::string_view text) {
  if (harmony_) return harmony_->push(text);
  for (size_t i = 0; i < text.size() && !is_done(); ++i) {
    if (state_ == State::kContent && !has_tools()) {
      add(Kind::kContent, text.substr(i));
      break;
    }
    push_char(text[i]);
  }
  return std::exchange(events_, {});
}

void ChatParser::push_char(char c) {
  switch (state_) {
    case State::kStart:
      return push_start(c);
    case State::kReasoning:
      return push_reasoning(c);
    case State::kContent:
      return push_content(c);
    case State::kCall:
      return push_call(c);
    case State::kAfterCall:
      return push_after_call(c);
  }
}

void ChatParser::push_start(char c) {
  held_ += c;
  if (c == kThinkOpen[matched_]) {
    if (++matched_ < kThinkOpen.size()) return;
    held_.clear();
    matched_ = 0;
    state_ = State::kReasoning;
  } else if (matched_ > 0 || !is_space(c)) {
    matched_ = 0;
    state_ = State::kContent;
    for (const char again : std::exchange(held_, {})) push_content(again);
  }
}

// '<' occurs in the markers only at their begin, so that a mismatch can restart there alone.
void ChatParser::push_reasoning(char c) {
  if (c == kThinkClose[matched_]) {
    if (++matched_ < kThinkClose.size()) return;
    matched_ = 0;
    state_ = State::kContent;
    return;
  }
  add(Kind::kReasoning, kThinkClose.substr(0, matched_));
  matched_ = c == kThinkClose[0] ? 1 : 0;
  if (matched_ == 0) add(Kind::kReasoning, {&c, 1});
}

void ChatParser::push_content(char c) {
  if (!has_tools()) return add(Kind::kContent, {&c, 1});
  if (options_.syntax == ToolSyntax::kBareJson) return push_bare(c);
  const bool is_held = c == kToolCallOpen[matched_] || (matched_ == 0 && is_space(c));
  if (!is_held) {
    add(Kind::kContent, std::exchange(held_, {}));
    matched_ = 0;
    if (c != kToolCallOpen[0] && !is_space(c)) return add(Kind::kContent, {&c, 1});
  }
  held_ += c;
  if (!is_space(c)) ++matched_;
  if (matched_ == kToolCallOpen.size()) begin_call();
}

// The call is all of the answer, perhaps behind kPythonTag.
void ChatParser::push_bare(char c) {
  if (has_content_) return add(Kind::kContent, {&c, 1});
  held_ += c;
  const bool may_begin = matched_ == 0 || matched_ == kPythonTag.size();
  if (may_begin && is_space(c)) return;
  if (may_begin && c == '{') {
    held_.pop_back();
    begin_call();
    return push_call(c);
  }
  if (matched_ < kPythonTag.size() && c == kPythonTag[matched_]) {
    ++matched_;
    return;
  }
  has_content_ = true;
  matched_ = 0;
  add(Kind::kContent, std::exchange(held_, {}));
}

void ChatParser::begin_call() {
  matched_ = 0;
  call_text_ = std::exchange(held_, {});
  call_ = make_tool_call_parser(options_.syntax, options_.tools);
  state_ = State::kCall;
}

void ChatParser::push_call(char c) {
  call_text_ += c;
  CallOutput output;
  const ToolCallParser::State state = call_->push(c, &output);
  take(std::move(output));
  if (state == ToolCallParser::State::kBroken) give_up_call();
  if (state == ToolCallParser::State::kMalformed) end_call(false);
  if (state == ToolCallParser::State::kEnded) {
    if (options_.syntax == ToolSyntax::kBareJson) return end_call(true);
    state_ = State::kAfterCall;
  }
  if (state == ToolCallParser::State::kClosed) end_call(true);
}

// Only from its last '<' on may the text still be the begin of another call.
void ChatParser::give_up_call() {
  const std::string text = std::exchange(call_text_, {});
  if (options_.syntax == ToolSyntax::kBareJson) {
    has_content_ = true;
    state_ = State::kContent;
    return add(Kind::kContent, text);
  }
  const size_t inner = text.find(kToolCallOpen) + kToolCallOpen.size();
  size_t end = text.rfind('<');
  if (end < inner) end = text.size();
  add(Kind::kContent, std::string_view(text).substr(0, end));
  state_ = State::kContent;
  for (const char again : std::string_view(text).substr(end)) push_char(again);
}

// Without its closing marker the call ends where something else begins.
void ChatParser::push_after_call(char c) {
  call_text_ += c;
  const TagMatcher::State state = call_close_.push(c);
  if (state == TagMatcher::State::kOpen) return;
  std::string rest;
  if (state == TagMatcher::State::kFailed) rest = call_close_.text();
  call_text_.resize(call_text_.size() - rest.size());
  end_call(true);
  if (is_done()) return;
  for (const char again : rest) push_char(again);
}

void ChatParser::end_call(bool is_complete) {
  events_.push_back({Kind::kCallEnd, std::exchange(call_text_, {}), num_calls_, {}, is_complete});
  if (is_complete) ++num_calls_;
  has_begun_ = false;
  has_content_ = true;
  call_close_.clear();
  state_ = State::kContent;
}

void ChatParser::take(CallOutput output) {
  if (output.name) {
    has_begun_ = true;
    events_.push_back({Kind::kCallBegin, *std::move(output.name), num_calls_,
                       fmt::format("{}{}", options_.id_prefix, num_calls_), true});
  }
  add(Kind::kCallArguments, output.arguments);
}

void ChatParser::add(Kind kind, std::string_view text) {
  append_text_event(kind, text, num_calls_, &events_);
}

std::vector<ChatEvent> ChatParser::finish(bool was_cut_off) {
  if (harmony_) return harmony_->finish(was_cut_off);
  if (is_done()) return {};
  if (state_ == State::kReasoning) add(Kind::kReasoning, kThinkClose.substr(0, matched_));
  const bool is_rest_of_calls = num_calls_ > 0 && matched_ == 0;  // white space
  if (state_ == State::kStart || (state_ == State::kContent && !is_rest_of_calls)) {
    add(Kind::kContent, held_);
  }
  if (state_ == State::kCall) {
    CallOutput output;
    const bool is_complete = call_->finish(was_cut_off, &output);
    take(std::move(output));
    if (has_begun_) {
      end_call(is_complete);
    } else {
      add(Kind::kContent, call_text_);
    }
  } else if (state_ == State::kAfterCall) {
    end_call(true);
  }
  return std::exchange(events_, {});
}

}  // namespace ultraspeed::server
