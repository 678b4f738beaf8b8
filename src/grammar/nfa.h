// A rule's automaton as its expression dictates it, with choices that are not yet decided.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "grammar/grammar_builder.h"

namespace ultraspeed::grammar {

struct Nfa {
  struct ByteEdge {
    uint32_t from;
    uint8_t first;
    uint8_t last;
    uint32_t to;
  };
  struct CallEdge {
    uint32_t from;
    RuleId rule;
    uint32_t to;
  };
  struct Epsilon {
    uint32_t from;
    uint32_t to;
  };
  uint32_t num_states = 1;  // state 0 is the start
  uint32_t final_state = 0;
  std::vector<ByteEdge> byte_edges;
  std::vector<CallEdge> call_edges;
  std::vector<Epsilon> epsilons;
};

// What is known of all rules before one is lowered; indexed by RuleId.
struct RuleFacts {
  std::vector<bool> is_reachable;
  std::vector<bool> is_nullable;  // matches the empty string
  std::vector<bool> is_inlined;   // becomes part of its callers
};

// Errors: kOutOfMemory when the work is too much.
Result<RuleFacts> study_rules(const GrammarBuilder& builder, RuleId root,
                              const BuildOptions& options, Budget* budget);

// Errors: kOutOfMemory, naming the rule, when it needs more than kMaxNfaStates.
Result<Nfa> lower_rule(const GrammarBuilder& builder, RuleId rule, const RuleFacts& facts);

}  // namespace ultraspeed::grammar
