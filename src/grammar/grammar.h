// A context-free language over bytes, compiled: one deterministic automaton a rule, whose
// transitions consume a byte or call another rule. Front ends make it: ebnf.h, regex.h,
// json_schema.h; grammar_builder.h is what they build with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ultraspeed::grammar {

// A set of bytes.
class ByteSet {
 public:
  bool contains(uint8_t byte) const { return (words_[byte >> 6] >> (byte & 63) & 1) != 0; }
  void add(uint8_t byte) { words_[byte >> 6] |= uint64_t{1} << (byte & 63); }
  ByteSet& operator|=(const ByteSet& other);
  size_t size() const;
  // The smallest byte. REQUIRES: the set is not empty.
  uint8_t front() const;

 private:
  std::array<uint64_t, 4> words_{};
};

using StateId = uint32_t;
inline constexpr StateId kNoState = ~StateId{0};

// Immutable; may be shared by threads. States of all rules are numbered together, those of a rule
// from its start state on, which names the rule. From each state the end of its rule can be
// reached, so whatever has not been refused can be completed. No rule calls itself before it has
// consumed a byte. What a call may consume without a byte, the caller's automaton does without the
// call: a called rule consumes at least one byte.
class Grammar {
 public:
  // Bytes first to last lead to target; the edges of a state are disjoint and ascending.
  struct Edge {
    uint8_t first;
    uint8_t last;
    StateId target;
  };
  struct Call {
    StateId start;
    StateId return_state;
    bool is_tail;  // nothing follows: the called rule may return where this one would
  };
  struct State {
    uint32_t edges_begin;
    uint32_t calls_begin;
    uint32_t row;  // of dense_, or kNoRow
    bool is_final;
  };
  static constexpr uint32_t kNoRow = ~uint32_t{0};

  StateId start() const { return start_; }
  size_t num_states() const { return states_.size() - 1; }
  size_t num_bytes() const;  // of memory
  bool is_final(StateId state) const { return states_[state].is_final; }
  std::span<const Edge> edges(StateId state) const {
    return std::span(edges_).subspan(states_[state].edges_begin,
                                     states_[state + 1].edges_begin - states_[state].edges_begin);
  }
  std::span<const Call> calls(StateId state) const {
    return std::span(calls_).subspan(states_[state].calls_begin,
                                     states_[state + 1].calls_begin - states_[state].calls_begin);
  }
  // Where the byte leads inside of the rule, without calls; kNoState: nowhere.
  StateId next(StateId state, uint8_t byte) const {
    if (states_[state].row != kNoRow) return dense_[states_[state].row * 256 + byte];
    for (const Edge& edge : edges(state)) {
      if (byte <= edge.last) return byte >= edge.first ? edge.target : kNoState;
    }
    return kNoState;
  }
  // The bytes that an edge or a called rule may consume.
  const ByteSet& first_bytes(StateId state) const { return first_bytes_[state]; }
  // Nothing but the end of the rule follows.
  bool is_exhausted(StateId state) const {
    return states_[state].is_final && edges(state).empty() && calls(state).empty();
  }

 private:
  friend class GrammarAssembler;

  StateId start_ = 0;
  std::vector<State> states_;  // and one more, for the ends of the last one's edges and calls
  std::vector<Edge> edges_;
  std::vector<Call> calls_;
  std::vector<StateId> dense_;  // [rows, 256], for states with many edges
  std::vector<ByteSet> first_bytes_;
};

}  // namespace ultraspeed::grammar
