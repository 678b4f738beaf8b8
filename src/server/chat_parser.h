// Reads a chat answer while it is generated: "<think>...</think>" at its begin (after white space,
// which is dropped) is reasoning, tool calls are taken apart, everything else is content, verbatim,
// but for white space before a call. What looks like a call and is none (broken, of an unknown
// tool) is content as it was written, or, where that shows only behind its begin, incomplete.
//
// The events depend on the whole answer alone, not on the chunks in which it comes; only what may
// still become something else is held back.
#pragma once

#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/tag_matcher.h"
#include "server/tool_schemas.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {

struct ChatEvent {
  enum class Kind { kReasoning, kContent, kCallBegin, kCallArguments, kCallEnd };
  Kind kind = Kind::kContent;
  // The text; kCallBegin: the tool's name; kCallArguments: JSON text; kCallEnd: all of the call as
  // the model wrote it, from the white space before it on.
  std::string text;
  size_t call = 0;          // kCall...: the call's index in the answer
  std::string id;           // kCallBegin: unlike that of any other call
  bool is_complete = true;  // kCallEnd: the arguments are whole
};

struct ChatParserOptions {
  bool starts_in_reasoning = false;       // the prompt ended with "<think>"
  ToolSyntax syntax = ToolSyntax::kNone;  // kNone or no tools: calls are content
  ToolSchemas tools = {};
  size_t max_calls = std::numeric_limits<size_t>::max();
  std::string id_prefix = "call_";  // the ids of calls are this and their index
};

class ChatParser {
 public:
  using Options = ChatParserOptions;

  explicit ChatParser(Options options = {});

  std::vector<ChatEvent> push(std::string_view text);
  // The answer is over: what was held back. was_cut_off: the model would have gone on.
  std::vector<ChatEvent> finish(bool was_cut_off);

  bool is_done() const { return num_calls_ >= options_.max_calls; }  // more text is ignored
  size_t num_calls() const { return num_calls_; }                    // that are complete

 private:
  enum class State {
    kStart,      // so far white space and a beginning of "<think>", both in held_
    kReasoning,  // matched_ bytes of "</think>" are held back
    kContent,    // held_ has white space, then matched_ bytes of kToolCallOpen
    kCall,
    kAfterCall,  // waits for kToolCallClose
  };
  bool has_tools() const { return options_.syntax != ToolSyntax::kNone && !options_.tools.empty(); }
  void push_char(char c);
  void push_start(char c);
  void push_reasoning(char c);
  void push_content(char c);
  void push_call(char c);
  void push_after_call(char c);
  void give_up_call();
  void end_call(bool is_complete);
  void take(CallOutput output);
  void add(ChatEvent::Kind kind, std::string_view text);

  const Options options_;
  State state_;
  size_t matched_ = 0;
  std::string held_;
  std::unique_ptr<ToolCallParser> call_;
  std::string call_text_;   // of this call, as it was written
  bool has_begun_ = false;  // the client knows of this call
  TagMatcher call_close_;
  size_t num_calls_ = 0;
  std::vector<ChatEvent> events_;
};

}  // namespace ultraspeed::server
