// Reads an answer in gpt-oss's harmony format while it is generated: messages in channels,
//
//   <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>commentary
//   to=functions.NAME <|constrain|>json<|message|>{...}<|call|>
//
// The prompt ends behind "<|start|>assistant". The analysis is reasoning, messages to functions are
// calls, all others content: the final channel's, and what is said in the commentary. Messages of
// one kind are joined by an empty line. Text without marks is content; a message to a function that
// is none of the tools, or whose arguments are no JSON object, is content as it was written.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/chat_event.h"

namespace ultraspeed::server {

// Events depend on the whole answer alone, not on its chunks.
class HarmonyParser {
 public:
  explicit HarmonyParser(const ChatParserOptions& options);

  // As those of ChatParser. The answer is done behind a call's or the turn's end.
  std::vector<ChatEvent> push(std::string_view text);
  std::vector<ChatEvent> finish(bool was_cut_off);
  bool is_done() const { return is_over_ || num_calls_ >= options_.max_calls; }
  size_t num_calls() const { return num_calls_; }

 private:
  enum class Place { kBetween, kHeader, kMessage };
  enum class Message { kReasoning, kContent, kCall, kDropped };

  void push_char(char c);
  void take_char(char c);
  void take_between(char c);
  void take_mark(std::string_view mark);
  void begin_message();
  void begin_text(Message message);
  void begin_call(const std::string& name);
  void take_argument(char c);
  void end_message();
  void end_arguments(bool was_cut_off);
  void end_call(bool is_complete);
  void push_call(std::string_view text);
  void add_text(std::string_view text);

  const ChatParserOptions options_;
  Place place_ = Place::kBetween;
  std::string mark_;    // the begin of a mark, perhaps
  std::string header_;  // kBetween: what may be its begin
  Message message_ = Message::kContent;
  bool needs_gap_ = false;  // before the next text of the message
  bool has_reasoning_ = false;
  bool has_content_ = false;

  std::unique_ptr<ToolCallParser> call_;
  ToolCallParser::State call_state_ = ToolCallParser::State::kOpen;
  bool has_arguments_ = false;  // other than white space
  bool has_begun_ = false;      // the client knows of this call
  std::string call_text_;       // as it was written
  size_t num_calls_ = 0;
  bool is_over_ = false;
  std::vector<ChatEvent> events_;
};

}  // namespace ultraspeed::server
