// What a model's answer to a chat is made of, as its parser tells of it while it comes.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

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
  bool starts_in_content = false;         // kHarmony: it ended inside of the final message
  ToolSyntax syntax = ToolSyntax::kNone;  // kNone or no tools: calls are content
  ToolSchemas tools = {};
  size_t max_calls = std::numeric_limits<size_t>::max();
  std::string id_prefix = "call_";  // the ids of calls are this and their index
};

// Adds text to the last event, where it is of the same kind.
inline void append_text_event(ChatEvent::Kind kind, std::string_view text, size_t call,
                              std::vector<ChatEvent>* events) {
  if (text.empty()) return;
  if (events->empty() || events->back().kind != kind) events->push_back({kind, {}, call, {}, true});
  events->back().text += text;
}

}  // namespace ultraspeed::server
