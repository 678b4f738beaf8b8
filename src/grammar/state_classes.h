// States that cannot be told apart by a token.
#pragma once

#include <vector>

#include "grammar/grammar.h"

namespace ultraspeed::grammar {

// For each state, one that agrees with it on all texts of up to num_bytes: it takes the same, and
// its rule may end at the same places. Counters have many such states far from their bounds.
std::vector<StateId> state_classes(const Grammar& grammar, size_t num_bytes);

}  // namespace ultraspeed::grammar
