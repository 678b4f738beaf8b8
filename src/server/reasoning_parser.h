// Splits a chat answer into reasoning and content while it is generated: the answer may begin with
// "<think>...</think>" (after white space, which is dropped), everything else is content, verbatim.
// Markers further on are content, too. The two texts depend on the whole answer alone, not on the
// chunks in which it comes; only what may still become a marker is held back.
#pragma once

#include <string>
#include <string_view>

namespace ultraspeed::server {

struct ChatDelta {
  std::string reasoning;
  std::string content;
};

class ReasoningParser {
 public:
  // starts_in_reasoning: the prompt ended with "<think>".
  explicit ReasoningParser(bool starts_in_reasoning)
      : state_(starts_in_reasoning ? State::kReasoning : State::kStart) {}

  ChatDelta push(std::string_view text);
  ChatDelta finish();  // the answer is over: what was held back

 private:
  enum class State {
    kStart,  // so far white space and a beginning of "<think>", both in held_
    kReasoning,
    kContent,
  };
  void push_start(char c, ChatDelta* delta);
  void push_reasoning(char c, ChatDelta* delta);

  State state_;
  size_t matched_ = 0;  // bytes of the awaited marker that the text ends with
  std::string held_;    // kStart: all of the text
};

}  // namespace ultraspeed::server
