// Texts up to a word that none of them contains.
#pragma once

#include <vector>

#include "base/result.h"
#include "grammar/determinize.h"
#include "grammar/grammar_builder.h"

namespace ultraspeed::grammar {

// Replaces the automaton whose states are those from `start` on by that of its texts with the end
// (GrammarBuilder::set_end). Errors: kOutOfMemory beyond limits.h.
Status add_end(const TextEnd& end, StateId start, Budget* budget, std::vector<DraftState>* states);

}  // namespace ultraspeed::grammar
