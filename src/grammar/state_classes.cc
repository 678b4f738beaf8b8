// By hashes that take in one byte more a round. Two states with the same of 64 bits agree, or else
// 2^32 states would not be enough to expect such a pair.
#include "grammar/state_classes.h"

#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace ultraspeed::grammar {
namespace {

constexpr size_t kMaxHashed = 20'000'000;  // edges and calls hashed, about 2 ns each
constexpr size_t kRoundsBetweenCounts = 8;

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15;
  return hash ^ (hash >> 32);
}

// All states, those that a state calls before it: there is no left recursion.
std::vector<StateId> callees_first(const Grammar& grammar) {
  const auto num_states = static_cast<StateId>(grammar.num_states());
  std::vector<StateId> order;
  std::vector<bool> is_seen(num_states);
  std::vector<std::pair<StateId, size_t>> path;  // and how many of its calls were followed
  for (StateId state = 0; state < num_states; ++state) {
    if (!is_seen[state]) path.emplace_back(state, 0);
    is_seen[state] = true;
    while (!path.empty()) {
      auto& [caller, num_followed] = path.back();
      const std::span<const Grammar::Call> calls = grammar.calls(caller);
      if (num_followed == calls.size()) {
        order.push_back(caller);
        path.pop_back();
        continue;
      }
      const StateId start = calls[num_followed++].start;
      if (!is_seen[start]) path.emplace_back(start, 0);
      is_seen[start] = true;
    }
  }
  return order;
}

// A call takes no byte by itself: its rule's start counts with the hash of the same round.
uint64_t next_hash(const Grammar& grammar, StateId state, const std::vector<uint64_t>& hashes,
                   const std::vector<uint64_t>& next) {
  uint64_t hash = mix(1, grammar.is_final(state) ? 1 : 0);
  for (const Grammar::Edge& edge : grammar.edges(state)) {
    hash = mix(mix(hash, edge.first * 256u + edge.last), hashes[edge.target]);
  }
  for (const Grammar::Call& call : grammar.calls(state)) {
    hash = mix(mix(mix(hash, call.is_tail ? 3 : 2), next[call.start]), hashes[call.return_state]);
  }
  return hash;
}

size_t num_distinct(const std::vector<uint64_t>& hashes) {
  return std::unordered_set<uint64_t>(hashes.begin(), hashes.end()).size();
}

}  // namespace

std::vector<StateId> state_classes(const Grammar& grammar, size_t num_bytes) {
  const auto num_states = static_cast<StateId>(grammar.num_states());
  std::vector<StateId> classes(num_states);
  size_t num_steps = num_states;
  for (StateId state = 0; state < num_states; ++state) {
    classes[state] = state;
    num_steps += grammar.edges(state).size() + grammar.calls(state).size();
  }
  std::vector<uint64_t> hashes(num_states), next(num_states);
  const std::vector<StateId> order = callees_first(grammar);
  size_t count = 0;
  for (size_t round = 0; round <= num_bytes; ++round) {
    if (round * num_steps > kMaxHashed) return classes;
    for (const StateId state : order) next[state] = next_hash(grammar, state, hashes, next);
    hashes.swap(next);
    if (round % kRoundsBetweenCounts != 0) continue;
    const size_t before = std::exchange(count, num_distinct(hashes));
    if (count == before) break;  // nothing will be told apart any more
  }
  std::unordered_map<uint64_t, StateId> first;
  for (StateId state = 0; state < num_states; ++state) {
    classes[state] = first.try_emplace(hashes[state], state).first->second;
  }
  return classes;
}

}  // namespace ultraspeed::grammar
