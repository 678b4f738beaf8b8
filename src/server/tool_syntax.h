// How a model writes tool calls, and the parsers of one call. Which syntax a model speaks is
// decided by its chat template: it shows past calls in the form that the model was trained on.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/tool_schemas.h"
#include "text/chat_template.h"

namespace ultraspeed::server {

inline constexpr std::string_view kToolCallOpen = "<tool_call>";
inline constexpr std::string_view kToolCallClose = "</tool_call>";
inline constexpr std::string_view kPythonTag = "<|python_tag|>";
// Of the harmony format, which harmony_parser.h describes.
inline constexpr std::string_view kHarmonyStart = "<|start|>";
inline constexpr std::string_view kHarmonyChannel = "<|channel|>";
inline constexpr std::string_view kHarmonyMessage = "<|message|>";
inline constexpr std::string_view kHarmonyConstrain = "<|constrain|>";
inline constexpr std::string_view kHarmonyEnd = "<|end|>";
inline constexpr std::string_view kHarmonyCall = "<|call|>";
inline constexpr std::string_view kHarmonyReturn = "<|return|>";

// The first three stand between kToolCallOpen and kToolCallClose.
enum class ToolSyntax {
  kNone,
  kXml,       // <function=NAME><parameter=KEY>VALUE</parameter></function>, as MiMo
  kXmlLines,  // the same with a line break around each VALUE, as Qwen3-Coder
  kJson,      // {"name": NAME, "arguments": {...}}, as Qwen3 and Hermes
  kBareJson,  // {"name": NAME, "parameters": {...}}, and nothing else, as Llama 3.1
  kHarmony,   // a message to functions.NAME, as gpt-oss; the rest of the answer has its form, too
};

// Whether an answer has at most one call.
constexpr bool has_one_call(ToolSyntax syntax) {
  return syntax == ToolSyntax::kBareJson || syntax == ToolSyntax::kHarmony;
}

// The tokens that structure an answer, which belong to its text even where they are special.
std::span<const std::string_view> answer_markers(ToolSyntax syntax);

// nullptr: no template, no tool calls.
ToolSyntax detect_tool_syntax(const text::ChatTemplate* chat_template);

// What some characters of a call gave.
struct CallOutput {
  std::optional<std::string> name;  // the call has begun
  std::string arguments;            // JSON text
};

// Reads one call, character by character, from behind kToolCallOpen, if it has one.
class ToolCallParser {
 public:
  enum class State {
    kOpen,
    kBroken,     // this is no call of a known tool; nothing came out of it
    kMalformed,  // the call has ended, and what came out of it is no JSON
    kEnded,      // the call is complete but for kToolCallClose
    kClosed,     // the call is complete, and kToolCallClose was read
  };

  virtual ~ToolCallParser() = default;
  virtual State push(char c, CallOutput* out) = 0;
  // The text ends here. Returns whether the call is complete, which a text that was cut off never
  // makes it: more might have come.
  virtual bool finish(bool was_cut_off, CallOutput* out) = 0;
};

// REQUIRES: tools outlive the parser; syntax is neither kNone nor kHarmony.
std::unique_ptr<ToolCallParser> make_tool_call_parser(ToolSyntax syntax, const ToolSchemas& tools);
std::unique_ptr<ToolCallParser> make_xml_tool_call_parser(bool has_value_lines,
                                                          const ToolSchemas& tools);
std::unique_ptr<ToolCallParser> make_json_tool_call_parser(const ToolSchemas& tools);

}  // namespace ultraspeed::server
