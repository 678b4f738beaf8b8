// Expressions with the sizes of their automata, so that what is too large is refused before it is
// made.
#include "grammar/grammar_builder.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace ultraspeed::grammar {
namespace {

constexpr uint64_t kManyStates = uint64_t{1} << 40;  // where sizes saturate

uint64_t saturated(uint64_t num_states) {
  return std::min(num_states, kManyStates);
}

uint64_t num_copies(uint32_t min, uint32_t max) {
  return max == kUnbounded ? uint64_t{min} + 1 : max;
}

}  // namespace

ExprId GrammarBuilder::add(Expr expr) {
  exprs_.push_back(std::move(expr));
  return static_cast<ExprId>(exprs_.size() - 1);
}

ExprId GrammarBuilder::bytes(std::string bytes) {
  Expr expr;
  expr.num_states = bytes.size();
  expr.bytes = std::move(bytes);
  return add(std::move(expr));
}

ExprId GrammarBuilder::characters(const CodePoints& set) {
  Expr expr;
  expr.kind = ExprKind::kCharacters;
  expr.sequences = utf8_sequences(set);
  expr.num_states = 1;
  for (const ByteSequence& sequence : expr.sequences) expr.num_states += sequence.size - 1u;
  return add(std::move(expr));
}

ExprId GrammarBuilder::sequence(std::vector<ExprId> children) {
  if (children.size() == 1) return children[0];
  Expr expr;
  expr.kind = ExprKind::kSequence;
  for (const ExprId child : children) expr.num_states += exprs_[child].num_states;
  expr.num_states = saturated(expr.num_states);
  expr.children = std::move(children);
  return add(std::move(expr));
}

ExprId GrammarBuilder::choice(std::vector<ExprId> children) {
  if (children.size() == 1) return children[0];
  Expr expr;
  expr.kind = ExprKind::kChoice;
  for (const ExprId child : children) expr.num_states += exprs_[child].num_states + 1;
  expr.num_states = saturated(expr.num_states + 1);
  expr.children = std::move(children);
  return add(std::move(expr));
}

ExprId GrammarBuilder::repeat(ExprId child, uint32_t min, uint32_t max) {
  US_CHECK(min <= max, "{} to {}", min, max);
  Expr expr;
  expr.kind = ExprKind::kRepeat;
  expr.num_states = saturated(num_copies(min, max) * (exprs_[child].num_states + 1) + 1);
  expr.children = {child};
  expr.min = min;
  expr.max = max;
  return add(std::move(expr));
}

ExprId GrammarBuilder::call(RuleId rule) {
  Expr expr;
  expr.kind = ExprKind::kCall;
  expr.rule = rule;
  expr.num_states = 1;
  return add(std::move(expr));
}

ExprId GrammarBuilder::list(ListExpr list) {
  Expr expr;
  expr.kind = ExprKind::kList;
  const uint64_t separator = exprs_[list.separator].num_states;
  expr.num_states = 2;
  for (const ListExpr::Element& element : list.elements) {
    expr.num_states += exprs_[element.expr].num_states + separator + 2;
  }
  if (list.tail != kNoExpr) {
    expr.num_states += saturated((num_copies(list.tail_min, list.tail_max) + 1) *
                                 (exprs_[list.tail].num_states + separator + 2));
  }
  expr.num_states = saturated(expr.num_states);
  expr.list = std::move(list);
  return add(std::move(expr));
}

RuleId GrammarBuilder::add_rule(std::string name) {
  rules_.push_back({std::move(name)});
  return static_cast<RuleId>(rules_.size() - 1);
}

Status GrammarBuilder::check_size() const {
  if (rules_.size() > kMaxRules) {
    return make_error(ErrorCode::kOutOfMemory, "more than {} rules", kMaxRules);
  }
  if (exprs_.size() > kMaxExpressions) {
    return make_error(ErrorCode::kOutOfMemory, "more than {} expressions", kMaxExpressions);
  }
  return {};
}

std::vector<ExprId> GrammarBuilder::parts(ExprId id) const {
  const Expr& expr = exprs_[id];
  std::vector<ExprId> parts = expr.children;
  if (expr.kind == ExprKind::kList) {
    for (const ListExpr::Element& element : expr.list.elements) parts.push_back(element.expr);
    parts.push_back(expr.list.separator);
    if (expr.list.tail != kNoExpr) parts.push_back(expr.list.tail);
  }
  return parts;
}

}  // namespace ultraspeed::grammar
