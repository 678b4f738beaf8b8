// Grammars in the notation of llama.cpp's GBNF; docs/grammars.md describes it.
#pragma once

#include <string_view>

#include "base/result.h"
#include "grammar/grammar.h"

namespace ultraspeed::grammar {

// The language of the rule `root`. Errors: kInvalidArgument with the byte offset or the rule,
// kUnsupported, kOutOfMemory beyond limits.h.
Result<Grammar> parse_ebnf(std::string_view text, std::string_view root = "root");

}  // namespace ultraspeed::grammar
