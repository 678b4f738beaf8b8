// From rules to tables: every rule's automaton, then what concerns all of them: states from which
// no end can be reached, left recursion, first bytes.
#include <algorithm>
#include <map>
#include <utility>

#include "grammar/determinize.h"
#include "grammar/grammar_builder.h"
#include "grammar/nfa.h"
#include "grammar/text_end.h"

namespace ultraspeed::grammar {
namespace {

constexpr size_t kMinDenseEdges = 7;      // a state with fewer is searched
constexpr uint32_t kMaxDenseRows = 4096;  // 4 MB

}  // namespace

class GrammarAssembler {
 public:
  GrammarAssembler(const GrammarBuilder& builder, RuleId root, const BuildOptions& options)
      : builder_(builder), root_(root), options_(options) {}

  Result<Grammar> run() {
    US_TRY(make_states());
    US_TRY(find_productive());
    if (!is_productive_[start_of_[root_]]) {
      return make_error(ErrorCode::kInvalidArgument, "{}: no finite text matches",
                        builder_.rules()[root_].name);
    }
    US_TRY(drop_dead_ends());
    US_TRY(find_first_bytes());
    write_tables();
    return std::move(grammar_);
  }

 private:
  Status make_states() {
    US_ASSIGN(const RuleFacts facts, study_rules(builder_, root_, options_, &budget_));
    start_of_.resize(builder_.rules().size(), kNoState);
    for (RuleId rule = 0; rule < start_of_.size(); ++rule) {
      if (!facts.is_reachable[rule] || facts.is_inlined[rule]) continue;
      start_of_[rule] = static_cast<StateId>(states_.size());
      rule_of_[start_of_[rule]] = rule;
      US_ASSIGN(const Nfa nfa, lower_rule(builder_, rule, facts));
      US_TRY(budget_.spend(nfa.num_states));
      US_TRY(determinize(nfa, &budget_, &states_));
      const TextEnd& end = builder_.rules()[rule].end;
      if (!end.word.empty()) US_TRY(add_end(end, start_of_[rule], &budget_, &states_));
    }
    return {};
  }

  // From final states backwards. A call is passed if the rule can end and what follows can.
  Status find_productive() {
    is_productive_.resize(states_.size());
    std::vector<std::vector<StateId>> dependents(states_.size());
    std::vector<StateId> pending;
    for (StateId state = 0; state < states_.size(); ++state) {
      for (const Grammar::Edge& edge : states_[state].edges) {
        dependents[edge.target].push_back(state);
      }
      for (const DraftState::Call& call : states_[state].calls) {
        dependents[call.return_state].push_back(state);
        dependents[start_of_[call.rule]].push_back(state);
      }
      if (states_[state].is_final) pending.push_back(state);
    }
    while (!pending.empty()) {
      const StateId state = pending.back();
      pending.pop_back();
      if (is_productive_[state]) continue;
      US_TRY(budget_.spend(1 + states_[state].edges.size() + states_[state].calls.size()));
      if (!can_end(states_[state])) continue;
      is_productive_[state] = true;
      pending.insert(pending.end(), dependents[state].begin(), dependents[state].end());
    }
    return {};
  }

  bool is_passable(const DraftState::Call& call) const {
    return is_productive_[start_of_[call.rule]] && is_productive_[call.return_state];
  }

  bool can_end(const DraftState& state) const {
    return state.is_final ||
           std::any_of(state.edges.begin(), state.edges.end(),
                       [&](const Grammar::Edge& edge) { return is_productive_[edge.target]; }) ||
           std::any_of(state.calls.begin(), state.calls.end(),
                       [&](const DraftState::Call& call) { return is_passable(call); });
  }

  Status drop_dead_ends() {
    for (DraftState& state : states_) {
      US_TRY(budget_.spend(1));
      std::erase_if(state.edges,
                    [&](const Grammar::Edge& edge) { return !is_productive_[edge.target]; });
      std::erase_if(state.calls, [&](const DraftState::Call& call) { return !is_passable(call); });
    }
    return {};
  }

  // Start states first, callees before callers; a start state that calls its way back to itself is
  // left recursion.
  Status find_first_bytes() {
    grammar_.first_bytes_.resize(states_.size());
    enum class Mark : uint8_t { kNew, kOpen, kDone };
    std::vector<Mark> marks(states_.size(), Mark::kNew);
    for (const auto& [start, rule] : rule_of_) {
      std::vector<StateId> path = {start};
      while (!path.empty()) {
        const StateId state = path.back();
        US_TRY(budget_.spend(1 + states_[state].calls.size()));
        if (marks[state] != Mark::kDone) marks[state] = Mark::kOpen;
        StateId next = kNoState;
        for (const DraftState::Call& call : states_[state].calls) {
          const StateId callee = start_of_[call.rule];
          if (marks[callee] == Mark::kOpen) return left_recursion(call.rule);
          if (marks[callee] == Mark::kNew) next = callee;
        }
        if (next != kNoState) {
          path.push_back(next);
          continue;
        }
        if (marks[state] != Mark::kDone) collect_first_bytes(state);
        marks[state] = Mark::kDone;
        path.pop_back();
      }
    }
    for (StateId state = 0; state < states_.size(); ++state) {
      if (marks[state] != Mark::kDone) collect_first_bytes(state);
      US_TRY(budget_.spend(1));
    }
    return {};
  }

  tl::unexpected<Error> left_recursion(RuleId rule) const {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: left recursion, the rule can call itself before it has read anything",
                      builder_.rules()[rule].name);
  }

  void collect_first_bytes(StateId state) {
    ByteSet& bytes = grammar_.first_bytes_[state];
    for (const Grammar::Edge& edge : states_[state].edges) {
      for (int byte = edge.first; byte <= edge.last; ++byte) bytes.add(static_cast<uint8_t>(byte));
    }
    for (const DraftState::Call& call : states_[state].calls) {
      bytes |= grammar_.first_bytes_[start_of_[call.rule]];
    }
  }

  void write_tables() {
    grammar_.start_ = start_of_[root_];
    for (const DraftState& state : states_) {
      grammar_.states_.push_back({static_cast<uint32_t>(grammar_.edges_.size()),
                                  static_cast<uint32_t>(grammar_.calls_.size()), add_row(state),
                                  state.is_final});
      grammar_.edges_.insert(grammar_.edges_.end(), state.edges.begin(), state.edges.end());
      for (const DraftState::Call& call : state.calls) {
        const DraftState& target = states_[call.return_state];
        const bool is_tail = target.is_final && target.edges.empty() && target.calls.empty();
        grammar_.calls_.push_back({start_of_[call.rule], call.return_state, is_tail});
      }
    }
    grammar_.states_.push_back({static_cast<uint32_t>(grammar_.edges_.size()),
                                static_cast<uint32_t>(grammar_.calls_.size()), Grammar::kNoRow,
                                false});
  }

  uint32_t add_row(const DraftState& state) {
    const size_t row = grammar_.dense_.size() / 256;
    if (state.edges.size() < kMinDenseEdges || row == kMaxDenseRows) return Grammar::kNoRow;
    grammar_.dense_.resize(grammar_.dense_.size() + 256, kNoState);
    for (const Grammar::Edge& edge : state.edges) {
      std::fill(grammar_.dense_.begin() + static_cast<ptrdiff_t>(row * 256 + edge.first),
                grammar_.dense_.begin() + static_cast<ptrdiff_t>(row * 256 + edge.last + 1),
                edge.target);
    }
    return static_cast<uint32_t>(row);
  }

  const GrammarBuilder& builder_;
  const RuleId root_;
  const BuildOptions& options_;
  Budget budget_;
  std::vector<StateId> start_of_;      // [rules]; kNoState: not called
  std::map<StateId, RuleId> rule_of_;  // by start state
  std::vector<DraftState> states_;
  std::vector<bool> is_productive_;  // [states]
  Grammar grammar_;
};

Result<Grammar> GrammarBuilder::build(RuleId root, const BuildOptions& options) const {
  US_TRY(check_size());
  return GrammarAssembler(*this, root, options).run();
}

}  // namespace ultraspeed::grammar
