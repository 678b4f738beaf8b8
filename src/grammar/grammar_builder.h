// What front ends describe a grammar with: rules whose bodies are expressions. build() compiles it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "grammar/code_points.h"
#include "grammar/grammar.h"
#include "grammar/limits.h"

namespace ultraspeed::grammar {

using ExprId = uint32_t;
using RuleId = uint32_t;
inline constexpr uint32_t kUnbounded = ~uint32_t{0};
inline constexpr ExprId kNoExpr = ~ExprId{0};

enum class ExprKind : uint8_t { kBytes, kCharacters, kSequence, kChoice, kRepeat, kCall, kList };

// Elements in order, some of them optional, then more of one kind, with a separator between any two
// that are there. No element may be empty.
struct ListExpr {
  struct Element {
    ExprId expr = kNoExpr;
    bool is_required = false;
  };
  std::vector<Element> elements;
  bool is_prefix = false;  // behind an optional element that is left out nothing follows
  ExprId separator = kNoExpr;
  ExprId tail = kNoExpr;  // kNoExpr: none
  uint32_t tail_min = 0;
  uint32_t tail_max = kUnbounded;
};

struct Expr {
  ExprKind kind = ExprKind::kBytes;
  std::string bytes;                    // kBytes
  std::vector<ByteSequence> sequences;  // kCharacters
  std::vector<ExprId> children;         // kSequence, kChoice, kRepeat (one)
  uint32_t min = 0;                     // kRepeat
  uint32_t max = 0;
  RuleId rule = 0;  // kCall
  ListExpr list;    // kList
  // States that it takes in an automaton, without those of called rules; saturates.
  uint64_t num_states = 0;
};

// What ends a text that is written without quotes: a word that it cannot contain.
struct TextEnd {
  std::string word;            // its first byte comes once in it
  std::string not_first = {};  // bytes that no text begins with, nor white space and then they
};

struct BuildOptions {
  // Rules that call no recursive rule and take at most so many states become part of their callers.
  uint64_t max_inlined_states = 0;
};

class GrammarBuilder {
 public:
  // Expressions. One may be used in several places, but not inside of itself. Nothing matches a
  // choice of nothing; the empty string matches a sequence of nothing.
  ExprId bytes(std::string bytes);
  ExprId characters(const CodePoints& set);  // one character of the set
  ExprId sequence(std::vector<ExprId> children);
  ExprId choice(std::vector<ExprId> children);
  ExprId repeat(ExprId child, uint32_t min, uint32_t max);  // REQUIRES: min <= max
  ExprId call(RuleId rule);
  ExprId list(ListExpr list);

  RuleId add_rule(std::string name);
  void set_body(RuleId rule, ExprId body) { rules_[rule].body = body; }

  // The texts of the body are followed by the end's word, and do not contain it. REQUIRES: rules
  // that the body calls take none of the end's bytes and no white space.
  void set_end(RuleId rule, TextEnd end) { rules_[rule].end = std::move(end); }

  // The language of the rule. Errors name the rule: kInvalidArgument for left recursion and for a
  // language without any string, kOutOfMemory for more than limits.h allows. REQUIRES: rules that
  // are called have bodies.
  Result<Grammar> build(RuleId root, const BuildOptions& options = {}) const;

  // Whether limits.h still allows expressions and rules; front ends ask as they read.
  Status check_size() const;

  struct Rule {
    std::string name;
    ExprId body = kNoExpr;
    TextEnd end = {};  // without a word: none
  };
  const Expr& expr(ExprId id) const { return exprs_[id]; }
  const std::vector<Rule>& rules() const { return rules_; }
  // The expressions inside of one.
  std::vector<ExprId> parts(ExprId id) const;

 private:
  ExprId add(Expr expr);

  std::vector<Expr> exprs_;
  std::vector<Rule> rules_;
};

}  // namespace ultraspeed::grammar
