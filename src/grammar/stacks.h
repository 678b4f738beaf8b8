// The stacks of calls that a matcher is in, all possible ones at once. Stacks share what they have
// in common: a node stands for a rule called at one place of the text, and its links say to which
// states of which callers it may return.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grammar/grammar.h"

namespace ultraspeed::grammar {

using NodeId = uint32_t;

// The bottom of every stack: where the start rule returns to. It has no links.
inline constexpr NodeId kBottom = 0;

// One way to read the text so far: a state of a rule, and the node that the rule returns to.
struct Item {
  StateId state;
  NodeId node;
  bool operator==(const Item&) const = default;
};

// Ways to read a text that are followed at a time; an ambiguous grammar loses those beyond.
inline constexpr size_t kMaxItems = 1024;

class Stacks {
 public:
  // A place to return to by truncate(): nodes and links only ever come on top.
  struct Mark {
    uint32_t num_nodes;
    uint32_t num_links;
  };
  static constexpr Mark bottom() { return {1, 0}; }
  Mark mark() const {
    return {static_cast<uint32_t>(last_link_.size()), static_cast<uint32_t>(links_.size())};
  }
  void truncate(Mark mark);

  // Appends to *out what the items become by consuming the byte; nothing: it is refused. `items`
  // may lie in *out. Returns whether the bottom's rule could have ended before the byte.
  bool advance(const Grammar& grammar, std::span<const Item> items, uint8_t byte,
               std::vector<Item>* out);

  // Calls visit(state, caller's node) for all that a rule with this node returns to.
  template <class Visit>
  void for_each_return(NodeId node, Visit visit) const {
    for (uint32_t link = last_link_[node]; link != kNoLink; link = links_[link].before) {
      visit(Item{links_[link].return_state, links_[link].caller});
    }
  }

  // Adds to *items, which holds no item twice, what follows from the ends of rules.
  void add_returns(const Grammar& grammar, std::vector<Item>* items) const;

 private:
  static constexpr uint32_t kNoLink = ~uint32_t{0};
  struct Link {
    StateId return_state;
    NodeId caller;
    uint32_t before;  // the link that the node had before this one
  };
  // A rule called in the current advance().
  struct NewCall {
    StateId start;
    NodeId node;
  };

  void follow_call(const Grammar::Call& call, NodeId node);

  std::vector<uint32_t> last_link_ = {kNoLink};  // [nodes]
  std::vector<Link> links_;
  std::vector<Item> pending_;  // of advance()
  std::vector<NewCall> new_calls_;
};

// Appends the item unless the list has it, or has kMaxItems.
void add_item(Item item, std::vector<Item>* items);

}  // namespace ultraspeed::grammar
