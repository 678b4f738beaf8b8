// The grammar of a list of texts.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "grammar/grammar.h"

namespace ultraspeed::grammar {

// Errors: kInvalidArgument for no text, kOutOfMemory beyond limits.h.
Result<Grammar> one_of(std::span<const std::string> texts);

}  // namespace ultraspeed::grammar
