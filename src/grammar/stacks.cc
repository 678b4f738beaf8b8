// A byte is looked at before rules are entered or left: only those calls become nodes whose rules
// can begin with it.
#include "grammar/stacks.h"

#include <algorithm>
#include <unordered_set>

namespace ultraspeed::grammar {

void add_item(Item item, std::vector<Item>* items) {
  if (items->size() < kMaxItems && std::find(items->begin(), items->end(), item) == items->end()) {
    items->push_back(item);
  }
}

void Stacks::truncate(Mark mark) {
  last_link_.resize(mark.num_nodes);
  links_.resize(mark.num_links);
}

// Rules called at one place share a node, whoever calls them.
void Stacks::follow_call(const Grammar::Call& call, NodeId node) {
  if (call.is_tail) return add_item({call.start, node}, &pending_);
  const auto known = std::find_if(new_calls_.begin(), new_calls_.end(),
                                  [&](const NewCall& other) { return other.start == call.start; });
  NodeId callee = 0;
  if (known == new_calls_.end()) {
    callee = static_cast<NodeId>(last_link_.size());
    last_link_.push_back(kNoLink);
    new_calls_.push_back({call.start, callee});
    pending_.push_back({call.start, callee});
  } else {
    callee = known->node;
  }
  links_.push_back({call.return_state, node, last_link_[callee]});
  last_link_[callee] = static_cast<uint32_t>(links_.size() - 1);
}

bool Stacks::advance(const Grammar& grammar, std::span<const Item> items, uint8_t byte,
                     std::vector<Item>* out) {
  pending_.assign(items.begin(), items.end());
  new_calls_.clear();
  const auto first_new_node = static_cast<NodeId>(last_link_.size());
  const size_t first_out = out->size();
  bool has_ended = false;
  for (size_t i = 0; i < pending_.size(); ++i) {
    const Item item = pending_[i];
    if (const StateId next = grammar.next(item.state, byte); next != kNoState) {
      const Item reached{next, item.node};
      const auto begin = out->begin() + static_cast<ptrdiff_t>(first_out);
      if (std::find(begin, out->end(), reached) == out->end()) out->push_back(reached);
    }
    for (const Grammar::Call& call : grammar.calls(item.state)) {
      if (grammar.first_bytes(call.start).contains(byte)) follow_call(call, item.node);
    }
    // A rule that was called just now ends with a byte at least; its caller goes on without it.
    if (!grammar.is_final(item.state) || item.node >= first_new_node) continue;
    has_ended |= item.node == kBottom;
    for_each_return(item.node, [&](Item caller) { add_item(caller, &pending_); });
  }
  return has_ended;
}

void Stacks::add_returns(const Grammar& grammar, std::vector<Item>* items) const {
  constexpr size_t kFewItems = 32;  // are searched sooner than hashed
  std::unordered_set<uint64_t> known;
  const auto key = [](Item item) { return uint64_t{item.state} << 32 | item.node; };
  const auto add = [&](Item item) {
    if (items->size() < kFewItems) {
      if (std::find(items->begin(), items->end(), item) == items->end()) items->push_back(item);
      return;
    }
    if (known.empty()) {
      for (const Item& other : *items) known.insert(key(other));
    }
    if (known.insert(key(item)).second) items->push_back(item);
  };
  for (size_t i = 0; i < items->size(); ++i) {
    const Item item = (*items)[i];
    if (grammar.is_final(item.state)) for_each_return(item.node, add);
  }
}

}  // namespace ultraspeed::grammar
