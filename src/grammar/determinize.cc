// A state of the result is a set of the NFA's states, of which only those count that consume
// something or are final.
#include "grammar/determinize.h"

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <unordered_map>

namespace ultraspeed::grammar {
namespace {

constexpr uint64_t kStepsOfSet = 32;  // to find it again
constexpr uint64_t kStepsOfMember = 3;
constexpr uint64_t kStepsOfSorting = 6;  // a member
constexpr uint64_t kStepsOfState = 100;

// Edges by the state that they leave.
template <class Edge>
class Outgoing {
 public:
  Outgoing(const std::vector<Edge>& edges, uint32_t num_states) : begin_(num_states + 2) {
    for (const Edge& edge : edges) ++begin_[edge.from + 2];
    for (size_t i = 2; i < begin_.size(); ++i) begin_[i] += begin_[i - 1];
    sorted_.resize(edges.size());
    for (const Edge& edge : edges) sorted_[begin_[edge.from + 1]++] = edge;
  }
  std::span<const Edge> of(uint32_t state) const {
    return std::span(sorted_).subspan(begin_[state], begin_[state + 1] - begin_[state]);
  }

 private:
  std::vector<uint32_t> begin_;
  std::vector<Edge> sorted_;
};

class Subsets {
 public:
  Subsets(const Nfa& nfa, Budget* budget, std::vector<DraftState>* states)
      : nfa_(nfa),
        byte_edges_(nfa.byte_edges, nfa.num_states),
        call_edges_(nfa.call_edges, nfa.num_states),
        epsilons_(nfa.epsilons, nfa.num_states),
        seen_(nfa.num_states),
        budget_(*budget),
        states_(*states),
        base_(static_cast<StateId>(states->size())) {}

  Status run() {
    const uint32_t start = 0;
    US_TRY(intern({&start, 1}));
    for (size_t i = 0; i < sets_.size(); ++i) {
      US_TRY(add_edges(i));
      US_TRY(add_calls(i));
    }
    return {};
  }

 private:
  struct Hash {
    size_t operator()(const std::vector<uint32_t>& set) const {
      uint64_t hash = 0xCBF29CE484222325;
      for (const uint32_t state : set) hash = (hash ^ state) * 0x9E3779B97F4A7C15 + (hash >> 29);
      return hash;
    }
  };

  // The state for the closure of the given ones.
  Result<StateId> intern(std::span<const uint32_t> from) {
    US_ASSIGN(std::vector<uint32_t> set, close(from));
    US_TRY(budget_.spend(kStepsOfSet + kStepsOfMember * set.size()));
    const auto [place, is_new] = ids_.try_emplace(std::move(set), base_ + sets_.size());
    if (!is_new) return place->second;
    US_TRY(budget_.spend(kStepsOfState));
    if (states_.size() >= kMaxStates) {
      return make_error(ErrorCode::kOutOfMemory,
                        "the grammar needs an automaton of more than {} states", kMaxStates);
    }
    sets_.push_back(&place->first);
    DraftState& state = states_.emplace_back();
    state.is_final = std::binary_search(place->first.begin(), place->first.end(), nfa_.final_state);
    return place->second;
  }

  Result<std::vector<uint32_t>> close(std::span<const uint32_t> from) {
    ++stamp_;
    std::vector<uint32_t> set;
    pending_.assign(from.begin(), from.end());
    for (size_t i = 0; i < pending_.size(); ++i) {
      US_TRY(budget_.spend(1));
      const uint32_t state = pending_[i];
      if (seen_[state] == stamp_) continue;
      seen_[state] = stamp_;
      if (state == nfa_.final_state || !byte_edges_.of(state).empty() ||
          !call_edges_.of(state).empty()) {
        set.push_back(state);
      }
      for (const Nfa::Epsilon& epsilon : epsilons_.of(state)) pending_.push_back(epsilon.to);
    }
    // First come, first served leaves little to sort.
    if (std::is_sorted(set.begin(), set.end())) return set;
    US_TRY(budget_.spend(kStepsOfSorting * set.size()));
    std::sort(set.begin(), set.end());
    return set;
  }

  // Bytes between two neighbouring cuts lead to the same states.
  Status add_edges(size_t index) {
    std::vector<Nfa::ByteEdge> edges;
    std::array<bool, 257> is_cut{};
    for (const uint32_t state : *sets_[index]) {
      for (const Nfa::ByteEdge& edge : byte_edges_.of(state)) {
        edges.push_back(edge);
        is_cut[edge.first] = is_cut[edge.last + 1] = true;
      }
    }
    if (edges.empty()) return {};
    std::array<uint16_t, 257> segment_of{};
    std::vector<uint16_t> firsts;
    for (uint16_t byte = 0; byte <= 256; ++byte) {
      if (is_cut[byte]) firsts.push_back(byte);
      segment_of[byte] = static_cast<uint16_t>(firsts.size());
    }
    std::vector<std::vector<uint32_t>> targets(firsts.size());
    for (const Nfa::ByteEdge& edge : edges) {
      US_TRY(budget_.spend(2));
      const uint16_t end = segment_of[edge.last + 1];
      for (size_t i = segment_of[edge.first]; i < end; ++i) targets[i - 1].push_back(edge.to);
    }
    for (size_t i = 0; i + 1 < firsts.size(); ++i) {
      if (targets[i].empty()) continue;
      US_ASSIGN(const StateId target, intern(targets[i]));
      append_edge(base_ + static_cast<StateId>(index), firsts[i], firsts[i + 1] - 1, target);
    }
    return {};
  }

  void append_edge(StateId from, int first, int last, StateId target) {
    std::vector<Grammar::Edge>& edges = states_[from].edges;
    if (!edges.empty() && edges.back().target == target && edges.back().last + 1 == first) {
      edges.back().last = static_cast<uint8_t>(last);
    } else {
      edges.push_back({static_cast<uint8_t>(first), static_cast<uint8_t>(last), target});
    }
  }

  Status add_calls(size_t index) {
    std::map<RuleId, std::vector<uint32_t>> returns;
    for (const uint32_t state : *sets_[index]) {
      for (const Nfa::CallEdge& call : call_edges_.of(state)) returns[call.rule].push_back(call.to);
    }
    for (const auto& [rule, targets] : returns) {
      US_ASSIGN(const StateId target, intern(targets));
      states_[base_ + index].calls.push_back({rule, target});
    }
    return {};
  }

  const Nfa& nfa_;
  const Outgoing<Nfa::ByteEdge> byte_edges_;
  const Outgoing<Nfa::CallEdge> call_edges_;
  const Outgoing<Nfa::Epsilon> epsilons_;
  std::vector<uint32_t> seen_;  // [NFA states], the closure that last reached each
  uint32_t stamp_ = 0;
  std::vector<uint32_t> pending_;
  Budget& budget_;
  std::vector<DraftState>& states_;
  const StateId base_;
  std::unordered_map<std::vector<uint32_t>, StateId, Hash> ids_;
  std::vector<const std::vector<uint32_t>*> sets_;  // keys of ids_, in order of their states
};

}  // namespace

Status determinize(const Nfa& nfa, Budget* budget, std::vector<DraftState>* states) {
  return Subsets(nfa, budget, states).run();
}

}  // namespace ultraspeed::grammar
