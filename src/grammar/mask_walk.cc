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
  // None: the tokens below end in the middle of a character, whose bytes decide.
  return plain_characters > 0 && frame.items_end - frame.items_begin == 1 &&
         runs_[items_[frame.items_begin].state].num_characters >= plain_characters;
}

bool MaskWalk::advance(Frame* frame, uint8_t byte) {
  items_.resize(frame->items_end);
  const size_t count = frame->items_end - frame->items_begin;
  const Item first = items_[frame->items_begin];
  // Most of a walk has one item whose rule stays what it is.
  const bool may_return = grammar_.is_final(first.state) && first.node != kBottom;
  if (count == 1 && !may_return) {
    if (grammar_.is_final(first.state)) add_exit(frame);
    if (!grammar_.first_bytes(first.state).contains(byte)) return false;
    if (!may_call(first.state, byte)) {
      items_.push_back({grammar_.next(first.state, byte), first.node});
      return true;
    }
  }
  stacks_.truncate(frame->mark);
  const bool has_ended = stacks_.advance(
      grammar_, std::span(items_).subspan(frame->items_begin, count), byte, &items_);
  if (has_ended) add_exit(frame);
  return items_.size() > frame->items_end;
}

void MaskWalk::add_exit(Frame* frame) {
  if (!frame->has_exit) exits_.push_back(frame->node);
  frame->has_exit = true;
}

void MaskWalk::run(StateId state, uint32_t from_node) {
  const bool has_plain = from_node == 0 && runs_[state].is_exact;
  items_ = {{state, kBottom}};
  frames_[0] = {from_node, vocabulary_.node(from_node).first_child, 0, 1, Stacks::bottom(), false};
  for (size_t depth = 0;;) {
    Frame& frame = frames_[depth];
    if (frame.next_child == vocabulary_.children_end(frame.node)) {
      if (depth-- == 0) return;
      continue;
    }
    const uint32_t index = frame.next_child++;
    const Vocabulary::Node& node = vocabulary_.node(index);
    const bool is_plain = node.plain_characters != Vocabulary::kNotAllPlain;
    if ((has_plain && is_plain) || !advance(&frame, node.byte)) continue;
    const Frame next = {index,       node.first_child, frame.items_end,
                        num_items(), stacks_.mark(),   false};
    const bool takes_all = is_plain && this->takes_all(next, node.plain_characters);
    const std::span<const int32_t> tokens =
        takes_all ? vocabulary_.subtree_tokens(index) : vocabulary_.tokens(index);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    if (!takes_all) frames_[++depth] = next;
  }
}

}  // namespace ultraspeed::grammar
