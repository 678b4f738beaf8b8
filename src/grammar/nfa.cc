// Thompson's construction: each expression becomes a piece between two states. A state that others
// loop back to is always a new one, so that pieces can be put one behind the other.
#include "grammar/nfa.h"

#include <algorithm>

namespace ultraspeed::grammar {
namespace {

class Lowering {
 public:
  Lowering(const GrammarBuilder& builder, const RuleFacts& facts)
      : builder_(builder), facts_(facts) {}

  Result<Nfa> run(RuleId rule) {
    const GrammarBuilder::Rule& named = builder_.rules()[rule];
    if (builder_.expr(named.body).num_states <= kMaxNfaStates) {
      nfa_.final_state = lower(named.body, 0);
    }
    if (nfa_.num_states > kMaxNfaStates || builder_.expr(named.body).num_states > kMaxNfaStates) {
      return make_error(ErrorCode::kOutOfMemory, "{}: needs an automaton of more than {} states",
                        named.name, kMaxNfaStates);
    }
    return std::move(nfa_);
  }

 private:
  uint32_t add_state() { return nfa_.num_states++; }
  void add_epsilon(uint32_t from, uint32_t to) { nfa_.epsilons.push_back({from, to}); }

  // The piece of the expression behind `from`; returns where it ends. Depth: that of the source and
  // of inlined rules. Beyond the limit of states nothing is added.
  uint32_t lower(ExprId id, uint32_t from) {
    if (nfa_.num_states > kMaxNfaStates) return from;
    const Expr& expr = builder_.expr(id);
    switch (expr.kind) {
      case ExprKind::kBytes:
        for (const char c : expr.bytes) from = lower_byte({byte_of(c), byte_of(c)}, from);
        return from;
      case ExprKind::kCharacters:
        return lower_characters(expr, from);
      case ExprKind::kSequence:
        for (const ExprId child : expr.children) from = lower(child, from);
        return from;
      case ExprKind::kChoice:
        return lower_choice(expr, from);
      case ExprKind::kRepeat:
        return lower_repeat(expr, from);
      case ExprKind::kCall:
        return lower_call(expr.rule, from);
      case ExprKind::kList:
        return lower_list(expr.list, from);
    }
    return from;
  }

  static uint8_t byte_of(char c) { return static_cast<uint8_t>(c); }

  uint32_t lower_byte(ByteSequence::Range range, uint32_t from) {
    const uint32_t to = add_state();
    nfa_.byte_edges.push_back({from, range.first, range.last, to});
    return to;
  }

  uint32_t lower_characters(const Expr& expr, uint32_t from) {
    const uint32_t end = add_state();
    for (const ByteSequence& sequence : expr.sequences) {
      uint32_t state = from;
      for (uint8_t i = 0; i + 1 < sequence.size; ++i) {
        state = lower_byte(sequence.ranges[i], state);
      }
      const ByteSequence::Range last = sequence.ranges[sequence.size - 1u];
      nfa_.byte_edges.push_back({state, last.first, last.last, end});
    }
    return end;
  }

  uint32_t lower_choice(const Expr& expr, uint32_t from) {
    const uint32_t end = add_state();
    for (const ExprId child : expr.children) add_epsilon(lower(child, from), end);
    return end;
  }

  uint32_t lower_repeat(const Expr& expr, uint32_t from) {
    for (uint32_t i = 0; i < expr.min; ++i) from = lower(expr.children[0], from);
    if (expr.max == kUnbounded) {
      const uint32_t loop = add_state();
      add_epsilon(from, loop);
      add_epsilon(lower(expr.children[0], loop), loop);
      return loop;
    }
    const uint32_t end = add_state();
    for (uint32_t i = expr.min; i < expr.max; ++i) {
      add_epsilon(from, end);
      from = lower(expr.children[0], from);
    }
    add_epsilon(from, end);
    return end;
  }

  uint32_t lower_call(RuleId rule, uint32_t from) {
    if (facts_.is_inlined[rule]) return lower(builder_.rules()[rule].body, from);
    const uint32_t to = add_state();
    nfa_.call_edges.push_back({from, rule, to});
    if (facts_.is_nullable[rule]) add_epsilon(from, to);
    return to;
  }

  // `empty`: no element so far; `some`: one, so that a separator comes before the next.
  uint32_t lower_list(const ListExpr& list, uint32_t from) {
    uint32_t empty = add_state();
    add_epsilon(from, empty);
    uint32_t some = add_state();
    const uint32_t end = add_state();
    for (const ListExpr::Element& element : list.elements) {
      const uint32_t begin = add_state();
      add_epsilon(empty, begin);
      add_epsilon(lower(list.separator, some), begin);
      const uint32_t after = lower(element.expr, begin);
      const uint32_t still_empty = add_state();
      const uint32_t next = add_state();
      add_epsilon(after, next);
      if (!element.is_required) {
        add_epsilon(empty, list.is_prefix ? end : still_empty);
        add_epsilon(some, list.is_prefix ? end : next);
      }
      empty = still_empty;
      some = next;
    }
    if (list.tail == kNoExpr || list.tail_min == 0) {
      add_epsilon(empty, end);
      add_epsilon(some, end);
    }
    if (list.tail != kNoExpr && list.tail_max > 0) lower_tail(list, empty, some, end);
    return end;
  }

  void lower_tail(const ListExpr& list, uint32_t empty, uint32_t some, uint32_t end) {
    const bool is_unbounded = list.tail_max == kUnbounded;
    const uint32_t num_copies = is_unbounded ? std::max(1u, list.tail_min) : list.tail_max;
    uint32_t begin = add_state();
    add_epsilon(empty, begin);
    add_epsilon(lower(list.separator, some), begin);
    for (uint32_t i = 1; i <= num_copies; ++i) {
      const uint32_t after = lower(list.tail, begin);
      if (i >= list.tail_min) add_epsilon(after, end);
      if (i < num_copies) {
        begin = lower(list.separator, after);
      } else if (is_unbounded) {
        add_epsilon(lower(list.separator, after), begin);
      }
    }
  }

  const GrammarBuilder& builder_;
  const RuleFacts& facts_;
  Nfa nfa_;
};

}  // namespace

Result<Nfa> lower_rule(const GrammarBuilder& builder, RuleId rule, const RuleFacts& facts) {
  return Lowering(builder, facts).run(rule);
}

}  // namespace ultraspeed::grammar
