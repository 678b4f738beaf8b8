#include "server/harmony_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "server/tag_matcher.h"

namespace ultraspeed::server {
namespace {

using EventKind = ChatEvent::Kind;
using CallState = ToolCallParser::State;

// '<' occurs in marks only at their begin, so that a mismatch can restart there alone.
constexpr std::array<std::string_view, 7> kMarks = {
    kHarmonyStart, kHarmonyChannel, kHarmonyMessage, kHarmonyConstrain,
    kHarmonyEnd,   kHarmonyCall,    kHarmonyReturn};
constexpr std::string_view kRecipient = "to=";
constexpr std::string_view kFunctions = "functions.";
constexpr size_t kMaxHeaderBytes = 1024;  // what is longer is none

std::string_view without_spaces(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

// The word behind the last `prefix`, up to white space or a mark.
std::string_view word_behind(std::string_view header, std::string_view prefix) {
  const size_t begin = header.rfind(prefix);
  if (begin == std::string_view::npos) return {};
  const std::string_view rest = header.substr(begin + prefix.size());
  return rest.substr(0, rest.find_first_of(" \t\r\n<"));
}

}  // namespace

HarmonyParser::HarmonyParser(const ChatParserOptions& options) : options_(options) {
  if (options.starts_in_content) place_ = Place::kMessage;
}

std::vector<ChatEvent> HarmonyParser::push(std::string_view text) {
  for (size_t i = 0; i < text.size() && !is_done(); ++i) push_char(text[i]);
  return std::exchange(events_, {});
}

void HarmonyParser::push_char(char c) {
  mark_ += c;
  bool may_be_mark = false;
  for (const std::string_view mark : kMarks) {
    if (mark == mark_) {
      mark_.clear();
      return take_mark(mark);
    }
    may_be_mark |= mark.starts_with(mark_);
  }
  if (may_be_mark) return;
  mark_.pop_back();
  for (const char text : std::exchange(mark_, {})) take_char(text);
  if (c == kMarks[0][0]) {
    mark_ = c;
  } else {
    take_char(c);
  }
}

void HarmonyParser::take_char(char c) {
  if (place_ == Place::kBetween) return take_between(c);
  if (place_ == Place::kMessage) {
    return message_ == Message::kCall ? take_argument(c) : add_text({&c, 1});
  }
  header_ += c;
  if (header_.size() <= kMaxHeaderBytes) return;
  begin_text(Message::kContent);
  add_text(std::exchange(header_, {}));
}

// White space, then "to=" begins a header without its first mark; anything else is content.
void HarmonyParser::take_between(char c) {
  header_ += c;
  const std::string_view word = without_spaces(header_);
  if (word == kRecipient) {
    place_ = Place::kHeader;
  } else if (!kRecipient.starts_with(word)) {
    begin_text(Message::kContent);
    add_text(std::exchange(header_, {}));
  }
}

void HarmonyParser::take_mark(std::string_view mark) {
  const bool is_inside = place_ == Place::kMessage;
  if (mark == kHarmonyMessage || mark == kHarmonyConstrain) {
    if (is_inside) {
      for (const char c : mark) take_char(c);
      return;
    }
    if (mark == kHarmonyMessage) return begin_message();
    header_ += mark;
    place_ = Place::kHeader;
    return;
  }
  if (is_inside) end_message();
  if (is_done()) return;
  if (mark == kHarmonyStart || mark == kHarmonyChannel) {
    if (is_inside || mark == kHarmonyStart) header_.clear();
    if (mark == kHarmonyChannel) header_ += mark;
    place_ = Place::kHeader;
    return;
  }
  header_.clear();
  place_ = Place::kBetween;
  is_over_ = mark != kHarmonyEnd;
}

void HarmonyParser::begin_message() {
  const std::string_view channel = word_behind(header_, kHarmonyChannel);
  std::string_view name = word_behind(header_, kRecipient);
  const bool is_function = name.starts_with(kFunctions);
  if (is_function) name.remove_prefix(kFunctions.size());
  if (!name.empty() && options_.tools.has_tool(name)) {
    begin_call(std::string(name));
  } else if (is_function) {
    begin_text(Message::kContent);
    add_text(header_);
    add_text(kHarmonyMessage);
  } else {
    begin_text(channel == "analysis" ? Message::kReasoning : Message::kContent);
  }
  header_.clear();
}

void HarmonyParser::begin_text(Message message) {
  place_ = Place::kMessage;
  message_ = message;
  needs_gap_ = message == Message::kReasoning ? has_reasoning_ : has_content_;
}

// The call is read as one in the JSON syntax, of which the model writes the arguments alone.
void HarmonyParser::begin_call(const std::string& name) {
  place_ = Place::kMessage;
  message_ = Message::kCall;
  call_ = make_tool_call_parser(ToolSyntax::kJson, options_.tools);
  call_text_ = header_;
  call_text_ += kHarmonyMessage;
  has_arguments_ = false;
  call_state_ = CallState::kOpen;
  push_call(fmt::format(R"({{"name":{},"arguments":)", Json(name).dump()));
}

void HarmonyParser::take_argument(char c) {
  call_text_ += c;
  has_arguments_ |= !is_space(c);
  push_call({&c, 1});
  if (call_state_ == CallState::kBroken) {
    begin_text(Message::kContent);
    add_text(std::exchange(call_text_, {}));
  }
}

// Nothing behind the call's end is looked at.
void HarmonyParser::push_call(std::string_view text) {
  for (const char c : text) {
    if (call_state_ != CallState::kOpen) return;
    CallOutput output;
    call_state_ = call_->push(c, &output);
    if (output.name) {
      has_begun_ = true;
      events_.push_back({EventKind::kCallBegin, *std::move(output.name), num_calls_,
                         fmt::format("{}{}", options_.id_prefix, num_calls_), true});
    }
    append_text_event(EventKind::kCallArguments, output.arguments, num_calls_, &events_);
  }
}

void HarmonyParser::end_message() {
  if (message_ == Message::kCall) end_arguments(/*was_cut_off=*/false);
  message_ = Message::kDropped;
}

void HarmonyParser::end_arguments(bool was_cut_off) {
  if (!was_cut_off && !has_begun_) push_call(has_arguments_ ? "}" : "{}}");
  CallOutput rest;
  bool is_complete = call_state_ == CallState::kEnded && !was_cut_off;
  if (call_state_ == CallState::kOpen) is_complete = call_->finish(was_cut_off, &rest);
  if (has_begun_) return end_call(is_complete);
  begin_text(Message::kContent);
  add_text(std::exchange(call_text_, {}));
}

void HarmonyParser::end_call(bool is_complete) {
  events_.push_back(
      {EventKind::kCallEnd, std::exchange(call_text_, {}), num_calls_, {}, is_complete});
  if (is_complete) ++num_calls_;
  has_begun_ = false;
}

void HarmonyParser::add_text(std::string_view text) {
  if (text.empty() || message_ == Message::kDropped) return;
  const bool is_reasoning = message_ == Message::kReasoning;
  (is_reasoning ? has_reasoning_ : has_content_) = true;
  const EventKind kind = is_reasoning ? EventKind::kReasoning : EventKind::kContent;
  if (std::exchange(needs_gap_, false)) append_text_event(kind, "\n\n", num_calls_, &events_);
  append_text_event(kind, text, num_calls_, &events_);
}

// A header without its message says nothing.
std::vector<ChatEvent> HarmonyParser::finish(bool was_cut_off) {
  if (is_done()) return {};
  for (const char c : std::exchange(mark_, {})) take_char(c);
  const bool is_call = place_ == Place::kMessage && message_ == Message::kCall;
  if (is_call) {
    end_arguments(was_cut_off);
  } else if (place_ == Place::kBetween && !without_spaces(header_).empty()) {
    begin_text(Message::kContent);
    add_text(header_);
  }
  return std::exchange(events_, {});
}

}  // namespace ultraspeed::server
