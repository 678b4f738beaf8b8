// The subset construction for one rule.
#pragma once

#include <vector>

#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/nfa.h"

namespace ultraspeed::grammar {

// A state of a rule's automaton before rules are put together.
struct DraftState {
  struct Call {
    RuleId rule;
    StateId return_state;
  };
  std::vector<Grammar::Edge> edges;  // ascending, disjoint
  std::vector<Call> calls;           // each rule once
  bool is_final = false;
};

// Appends the states of a deterministic automaton; the first of them is its start. Errors:
// kOutOfMemory for more than kMaxStates in all.
Status determinize(const Nfa& nfa, Budget* budget, std::vector<DraftState>* states);

}  // namespace ultraspeed::grammar
