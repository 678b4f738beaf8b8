// What a request wants its answer to keep to: OpenAI's response_format, vLLM's structured_outputs
// and its older guided_json, guided_regex, guided_choice and guided_grammar.
#pragma once

#include <optional>
#include <string>

#include "server/json_fields.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {

// The tools that an answer may call.
struct CallChoice {
  ToolSyntax syntax = ToolSyntax::kNone;
  Json tools;              // as requests have them
  bool is_single = false;  // one call, not several
  bool operator==(const CallChoice&) const = default;
};

// A grammar as it was written.
struct GrammarSource {
  enum class Kind {
    kNone,        // calls alone
    kJsonObject,  // any; without text
    kJsonSchema,
    kRegex,
    kChoice,  // a JSON array of strings
    kEbnf,
  };
  Kind kind = Kind::kJsonObject;
  std::string text;
  std::string param;        // the request's field, for errors
  bool is_compact = false;  // JSON without white space, most of which must come as it is
  std::optional<CallChoice> calls = {};  // another answer that is allowed, or all of kNone
  bool has_channels = false;  // it is of the final message of an answer in the harmony format

  bool is_same_language(const GrammarSource& other) const {
    return kind == other.kind && text == other.text && is_compact == other.is_compact &&
           calls == other.calls && has_channels == other.has_channels;
  }
};

// Nothing where any text will do. Errors: 400 for malformed fields, unknown kinds and more than one
// grammar. What the grammar says is not looked at.
ApiResult<std::optional<GrammarSource>> read_grammar(const Fields& fields);

}  // namespace ultraspeed::server
