// The items of all nodes on the way lie one behind the other; going back is shortening the list.
#include "grammar/mask_walk.h"

#include <algorithm>

namespace ultraspeed::grammar {

MaskWalk::MaskWalk(const Grammar& grammar, const Vocabulary& vocabulary,
                   const std::vector<PlainRun>& runs)
    : grammar_(grammar), vocabulary_(vocabulary), runs_(runs) {
  frames_.resize(vocabulary.max_token_bytes() + 1);
}

bool MaskWalk::may_call(StateId state, uint8_t byte) const {
  const std::span<const Grammar::Call> calls = grammar_.calls(state);
  return std::any_of(calls.begin(), calls.end(), [&](const Grammar::Call& call) {
    return grammar_.first_bytes(call.start).contains(byte);
  });
}

bool MaskWalk::takes_all(const Frame& frame, uint8_t plain_characters) const {
  return plain_characters != Vocabulary::kNotAllPlain && frame.items_end - frame.items_begin == 1 &&
         runs_[items_[frame.items_begin].state].num_characters >= plain_characters;
}

bool MaskWalk::advance(Frame* frame, uint8_t byte) {
  items_.resize(frame->items_end);
  const size_t num_items = frame->items_end - frame->items_begin;
  const Item first = items_[frame->items_begin];
  // Most of a walk is inside of strings: one item, no call, no end.
  if (num_items == 1 && !grammar_.is_final(first.state) && !may_call(first.state, byte)) {
    const StateId next = grammar_.next(first.state, byte);
    if (next == kNoState) return false;
    items_.push_back({next, first.node});
    return true;
  }
  stacks_.truncate(frame->mark);
  const bool has_ended = stacks_.advance(
      grammar_, std::span(items_).subspan(frame->items_begin, num_items), byte, &items_);
  if (has_ended && !frame->has_exit) {
    frame->has_exit = true;
    exits_.push_back(frame->node);
  }
  return items_.size() > frame->items_end;
}

void MaskWalk::run(StateId state, uint32_t from_node) {
  const std::span<const Vocabulary::Node> nodes = vocabulary_.nodes();
  items_ = {{state, kBottom}};
  frames_[0] = {from_node, 0, 1, Stacks::bottom(), false};
  const uint16_t base_depth = nodes[from_node].depth;
  const uint32_t end = nodes[from_node].subtree_end;
  const bool has_plain = from_node == 0 && runs_[state].is_exact;
  for (uint32_t node = from_node + 1; node < end;) {
    if (has_plain && nodes[node].plain_characters != Vocabulary::kNotAllPlain) {
      node = nodes[node].subtree_end;
      continue;
    }
    const size_t depth = nodes[node].depth - base_depth;
    Frame& parent = frames_[depth - 1u];
    if (!advance(&parent, nodes[node].byte)) {
      node = nodes[node].subtree_end;
      continue;
    }
    frames_[depth] = {node, parent.items_end, static_cast<uint32_t>(items_.size()), stacks_.mark(),
                      false};
    const bool takes_all = this->takes_all(frames_[depth], nodes[node].plain_characters);
    const std::span<const int32_t> tokens =
        takes_all ? vocabulary_.subtree_tokens(node) : vocabulary_.tokens(node);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    node = takes_all ? nodes[node].subtree_end : node + 1;
  }
}

}  // namespace ultraspeed::grammar
