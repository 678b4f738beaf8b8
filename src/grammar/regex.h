// Regular expressions in the part of ECMAScript's syntax that is regular; docs/grammars.md
// describes it.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "grammar/code_points.h"
#include "grammar/grammar.h"
#include "grammar/grammar_builder.h"

namespace ultraspeed::grammar {

// The texts that match as a whole; ^ and $ at the ends change nothing. Errors: kInvalidArgument,
// kUnsupported for what is not regular, with the byte offset; kOutOfMemory beyond limits.h.
Result<Grammar> parse_regex(std::string_view pattern);

// For a regular expression inside of another language.
struct RegexOptions {
  std::string name = "regular expression";  // in errors
  // How the language spells a character of the set; nothing: as UTF-8.
  std::function<ExprId(const CodePoints&)> spell;
  // A text matches if a part of it does, as JSON Schema has it: ^ and $ bind a branch to the ends.
  bool is_search = false;
};

Result<ExprId> add_regex(std::string_view pattern, const RegexOptions& options,
                         GrammarBuilder* builder);

}  // namespace ultraspeed::grammar
