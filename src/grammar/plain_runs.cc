// A state has one successor if all plain characters lead to the same state; the length of a run is
// that of the chain of successors.
#include "grammar/plain_runs.h"

#include <optional>

#include "grammar/code_points.h"
#include "grammar/stacks.h"

namespace ultraspeed::grammar {
namespace {

class Successors {
 public:
  explicit Successors(const Grammar& grammar)
      : grammar_(grammar), sequences_(utf8_sequences(plain_characters())) {
    for (const ByteSequence& sequence : sequences_) {
      const auto [first, last] = sequence.ranges[0];
      for (int byte = first; byte <= last; ++byte) first_bytes_.add(static_cast<uint8_t>(byte));
    }
  }

  // Whether no plain character is taken.
  bool refuses(StateId state) const {
    for (int byte = 0; byte < 256; ++byte) {
      const auto b = static_cast<uint8_t>(byte);
      if (first_bytes_.contains(b) && grammar_.first_bytes(state).contains(b)) return false;
    }
    return true;
  }

  // The state after any plain character; nothing if that depends on the character.
  std::optional<StateId> of(StateId state) {
    for (int byte = 0; byte < 256; ++byte) {
      const auto b = static_cast<uint8_t>(byte);
      if (first_bytes_.contains(b) && !grammar_.first_bytes(state).contains(b)) return std::nullopt;
    }
    std::optional<StateId> common;
    for (const ByteSequence& sequence : sequences_) {
      for (int byte = sequence.ranges[0].first; byte <= sequence.ranges[0].last; ++byte) {
        const std::optional<StateId> reached = after(state, static_cast<uint8_t>(byte), sequence);
        if (!reached || (common && *common != *reached)) return std::nullopt;
        common = reached;
      }
    }
    return common;
  }

 private:
  // Where the characters lead that begin with the byte and go on as the sequence does.
  std::optional<StateId> after(StateId state, uint8_t byte, const ByteSequence& sequence) {
    stacks_.truncate(Stacks::bottom());
    items_.clear();
    const Item start{state, kBottom};
    stacks_.advance(grammar_, {&start, 1}, byte, &items_);
    if (items_.size() != 1) return std::nullopt;
    Item item = items_[0];
    for (uint8_t i = 1; i < sequence.size; ++i) {
      const std::span<const Grammar::Edge> edges = grammar_.edges(item.state);
      const auto [first, last] = sequence.ranges[i];
      const bool is_uniform = edges.size() == 1 && grammar_.calls(item.state).empty() &&
                              !grammar_.is_final(item.state) && edges[0].first <= first &&
                              edges[0].last >= last;
      if (!is_uniform) return std::nullopt;
      item.state = edges[0].target;
    }
    while (item.node != kBottom && grammar_.is_exhausted(item.state)) {
      stacks_.for_each_return(item.node, [&](Item caller) { item = caller; });
    }
    if (item.node != kBottom) return std::nullopt;
    return item.state;
  }

  const Grammar& grammar_;
  const std::vector<ByteSequence> sequences_;
  ByteSet first_bytes_;
  Stacks stacks_;
  std::vector<Item> items_;
};

}  // namespace

const CodePoints& plain_characters() {
  static const CodePoints kPlain = {{' ', '!'}, {'#', '['}, {']', kMaxCodePoint}};
  return kPlain;
}

uint32_t count_plain(std::string_view bytes) {
  uint32_t count = 0;
  for (; !bytes.empty(); ++count) {
    const auto [c, num_bytes] = first_character(bytes);
    if (num_bytes == 0 || c < ' ' || c == '"' || c == '\\') return kNotPlain;
    bytes.remove_prefix(num_bytes);
  }
  return count;
}

std::vector<PlainRun> plain_runs(const Grammar& grammar) {
  enum class Mark : uint8_t { kNew, kOpen, kDone };
  std::vector<PlainRun> runs(grammar.num_states());
  std::vector<Mark> marks(grammar.num_states(), Mark::kNew);
  Successors successors(grammar);
  std::vector<StateId> chain;
  for (StateId first = 0; first < grammar.num_states(); ++first) {
    PlainRun run;
    for (StateId state = first;;) {
      if (marks[state] == Mark::kDone) {
        run = runs[state];
        break;
      }
      if (marks[state] == Mark::kOpen) {  // a loop
        run = {PlainRun::kEndless, true};
        break;
      }
      const std::optional<StateId> next = successors.of(state);
      marks[state] = Mark::kOpen;
      chain.push_back(state);
      if (!next) {
        run = {0, successors.refuses(state) && !grammar.is_final(state)};
        runs[state] = run;
        marks[state] = Mark::kDone;
        chain.pop_back();
        break;
      }
      state = *next;
    }
    for (; !chain.empty(); chain.pop_back()) {
      const StateId state = chain.back();
      if (run.num_characters != PlainRun::kEndless) ++run.num_characters;
      run.is_exact = run.is_exact && !grammar.is_final(state);
      runs[state] = run;
      marks[state] = Mark::kDone;
    }
  }
  return runs;
}

}  // namespace ultraspeed::grammar
