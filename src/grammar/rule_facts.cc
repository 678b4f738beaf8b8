// Which rules are reached, which match the empty string, and which become part of their callers.
#include <algorithm>

#include "grammar/nfa.h"

namespace ultraspeed::grammar {
namespace {

constexpr uint32_t kMaxInlinedHeight = 8;  // of rules inside of rules

class Study {
 public:
  Study(const GrammarBuilder& builder, const BuildOptions& options, Budget* budget)
      : builder_(builder), options_(options), budget_(*budget) {
    const size_t count = builder.rules().size();
    facts_.is_reachable.resize(count);
    facts_.is_nullable.resize(count);
    facts_.is_inlined.resize(count);
    callees_.resize(count);
    callers_.resize(count);
  }

  Result<RuleFacts> run(RuleId root) {
    US_TRY(find_calls(root));
    US_TRY(find_nullable());
    if (options_.max_inlined_states > 0) US_TRY(find_inlined(root));
    return std::move(facts_);
  }

 private:
  Status find_calls(RuleId root) {
    reached_.push_back(root);
    facts_.is_reachable[root] = true;
    for (size_t i = 0; i < reached_.size(); ++i) {
      const RuleId rule = reached_[i];
      std::vector<ExprId> pending = {builder_.rules()[rule].body};
      while (!pending.empty()) {
        US_TRY(budget_.spend(1));
        const ExprId id = pending.back();
        pending.pop_back();
        if (const Expr& expr = builder_.expr(id); expr.kind == ExprKind::kCall) {
          callees_[rule].push_back(expr.rule);
          callers_[expr.rule].push_back(rule);
          if (!facts_.is_reachable[expr.rule]) reached_.push_back(expr.rule);
          facts_.is_reachable[expr.rule] = true;
        }
        for (const ExprId part : builder_.parts(id)) pending.push_back(part);
      }
    }
    return {};
  }

  // A rule is looked at again when one that it calls turns out to be nullable.
  Status find_nullable() {
    std::vector<RuleId> pending = reached_;
    while (!pending.empty()) {
      const RuleId rule = pending.back();
      pending.pop_back();
      if (facts_.is_nullable[rule] || !builder_.rules()[rule].end.word.empty()) continue;
      US_ASSIGN(const bool is_nullable, matches_empty(builder_.rules()[rule].body));
      if (!is_nullable) continue;
      facts_.is_nullable[rule] = true;
      pending.insert(pending.end(), callers_[rule].begin(), callers_[rule].end());
    }
    return {};
  }

  // Depth: that of the source.
  Result<bool> matches_empty(ExprId id) {
    US_TRY(budget_.spend(1));
    const Expr& expr = builder_.expr(id);
    switch (expr.kind) {
      case ExprKind::kBytes:
        return expr.bytes.empty();
      case ExprKind::kCharacters:
        return false;
      case ExprKind::kCall:
        return bool{facts_.is_nullable[expr.rule]};
      case ExprKind::kRepeat:
        return expr.min == 0 ? Result<bool>(true) : matches_empty(expr.children[0]);
      case ExprKind::kChoice:
        return any_matches_empty(expr.children);
      case ExprKind::kSequence:
        return all_match_empty(expr.children);
      case ExprKind::kList:
        return list_matches_empty(expr.list);
    }
    return false;
  }

  Result<bool> any_matches_empty(const std::vector<ExprId>& ids) {
    for (const ExprId id : ids) {
      US_ASSIGN(const bool is_empty, matches_empty(id));
      if (is_empty) return true;
    }
    return false;
  }

  Result<bool> all_match_empty(const std::vector<ExprId>& ids) {
    for (const ExprId id : ids) {
      US_ASSIGN(const bool is_empty, matches_empty(id));
      if (!is_empty) return false;
    }
    return true;
  }

  static Result<bool> list_matches_empty(const ListExpr& list) {
    const bool has_tail = list.tail != kNoExpr && list.tail_min > 0;
    return !has_tail &&
           std::none_of(list.elements.begin(), list.elements.end(),
                        [](const ListExpr::Element& element) { return element.is_required; });
  }

  // Callees first; a rule on a cycle meets one that is not finished.
  Status find_inlined(RuleId root) {
    struct Frame {
      RuleId rule;
      size_t next_callee;
    };
    std::vector<bool> is_entered(callees_.size());
    num_states_.resize(callees_.size());
    height_.resize(callees_.size());
    std::vector<Frame> frames = {{root, 0}};
    is_entered[root] = true;
    while (!frames.empty()) {
      US_TRY(budget_.spend(1));
      Frame& frame = frames.back();
      if (frame.next_callee == callees_[frame.rule].size()) {
        decide_inlined(frame.rule);
        frames.pop_back();
        continue;
      }
      const RuleId callee = callees_[frame.rule][frame.next_callee++];
      if (is_entered[callee]) continue;
      is_entered[callee] = true;
      frames.push_back({callee, 0});
    }
    facts_.is_inlined[root] = false;
    return {};
  }

  void decide_inlined(RuleId rule) {
    uint64_t num_states = builder_.expr(builder_.rules()[rule].body).num_states;
    uint32_t height = 0;
    for (const RuleId callee : callees_[rule]) {
      if (!facts_.is_inlined[callee]) return;
      num_states += num_states_[callee];
      height = std::max(height, height_[callee] + 1);
    }
    num_states_[rule] = num_states;
    height_[rule] = height;
    // The automaton of a text with an end has several states for each of the text's.
    const auto has_end = [this](RuleId id) { return !builder_.rules()[id].end.word.empty(); };
    const bool is_apart = has_end(rule) || std::ranges::any_of(callers_[rule], has_end);
    facts_.is_inlined[rule] =
        !is_apart && num_states <= options_.max_inlined_states && height < kMaxInlinedHeight;
  }

  const GrammarBuilder& builder_;
  const BuildOptions& options_;
  Budget& budget_;
  RuleFacts facts_;
  std::vector<RuleId> reached_;
  std::vector<std::vector<RuleId>> callees_;  // [rules], an entry a call
  std::vector<std::vector<RuleId>> callers_;
  std::vector<uint64_t> num_states_;  // of finished rules, with what is inlined into them
  std::vector<uint32_t> height_;
};

}  // namespace

Result<RuleFacts> study_rules(const GrammarBuilder& builder, RuleId root,
                              const BuildOptions& options, Budget* budget) {
  return Study(builder, options, budget).run(root);
}

}  // namespace ultraspeed::grammar
