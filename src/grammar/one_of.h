// The grammar of a list of texts.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/grammar_builder.h"

namespace ultraspeed::grammar {

// Errors: kInvalidArgument for no text, kOutOfMemory beyond limits.h.
Result<Grammar> one_of(std::span<const std::string> texts);
// The same inside of another language.
Result<ExprId> add_one_of(std::span<const std::string> texts, GrammarBuilder* builder);

}  // namespace ultraspeed::grammar
