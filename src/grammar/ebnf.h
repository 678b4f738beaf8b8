// Grammars in the notation of llama.cpp's GBNF; docs/grammars.md describes it.
#pragma once

#include <string_view>

#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/grammar_builder.h"

namespace ultraspeed::grammar {

// The language of the rule `root`. Errors: kInvalidArgument with the byte offset or the rule,
// kUnsupported, kOutOfMemory beyond limits.h.
Result<Grammar> parse_ebnf(std::string_view text, std::string_view root = "root");
// The same inside of another language.
Result<RuleId> add_ebnf(std::string_view text, GrammarBuilder* builder,
                        std::string_view root = "root");
// Rules up to this size become part of their callers: characters and tokens of a grammar.
inline constexpr uint64_t kMaxInlinedStates = 256;

}  // namespace ultraspeed::grammar
