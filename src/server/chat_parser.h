// Reads a chat answer while it is generated: "<think>...</think>" at its begin (after white space,
// which is dropped) is reasoning, tool calls are taken apart, everything else is content, verbatim,
// but for white space before a call. What looks like a call and is none (broken, of an unknown
// tool) is content as it was written, or, where that shows only behind its begin, incomplete.
//
// The events depend on the whole answer alone, not on the chunks in which it comes; only what may
// still become something else is held back. Answers in the harmony format are HarmonyParser's.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/chat_event.h"
#include "server/harmony_parser.h"
#include "server/tag_matcher.h"

namespace ultraspeed::server {

class ChatParser {
 public:
  using Options = ChatParserOptions;

  explicit ChatParser(Options options = {});

  std::vector<ChatEvent> push(std::string_view text);
  // The answer is over: what was held back. was_cut_off: the model would have gone on.
  std::vector<ChatEvent> finish(bool was_cut_off);

  // More text is ignored.
  bool is_done() const { return harmony_ ? harmony_->is_done() : num_calls_ >= options_.max_calls; }
  // That are complete.
  size_t num_calls() const { return harmony_ ? harmony_->num_calls() : num_calls_; }

 private:
  enum class State {
    kStart,      // so far white space and a beginning of "<think>", both in held_
    kReasoning,  // matched_ bytes of "</think>" are held back
    kContent,    // held_ has white space, then matched_ bytes of the mark before a call
    kCall,
    kAfterCall,  // waits for kToolCallClose
  };
  bool has_tools() const { return options_.syntax != ToolSyntax::kNone && !options_.tools.empty(); }
  void push_char(char c);
  void push_start(char c);
  void push_reasoning(char c);
  void push_content(char c);
  void push_bare(char c);
  void begin_call();
  void push_call(char c);
  void push_after_call(char c);
  void give_up_call();
  void end_call(bool is_complete);
  void take(CallOutput output);
  void add(ChatEvent::Kind kind, std::string_view text);

  const Options options_;
  std::unique_ptr<HarmonyParser> harmony_;  // of answers in that format; the rest is of others
  State state_;
  size_t matched_ = 0;
  std::string held_;
  std::unique_ptr<ToolCallParser> call_;
  std::string call_text_;     // of this call, as it was written
  bool has_begun_ = false;    // the client knows of this call
  bool has_content_ = false;  // kBareJson: a call cannot come any more
  TagMatcher call_close_;
  size_t num_calls_ = 0;
  std::vector<ChatEvent> events_;
};

}  // namespace ultraspeed::server
