// Which tokens a state allows by itself, and where its rule may end inside of a token.
#pragma once

#include <cstdint>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/stacks.h"
#include "grammar/vocabulary.h"

namespace ultraspeed::grammar {

// Walks the vocabulary's tree with the automata, leaving out what is below a refused byte.
class MaskWalk {
 public:
  MaskWalk(const Grammar& grammar, const Vocabulary& vocabulary);

  // From the state at a node of the tree, whose bytes are consumed.
  void run(StateId state, uint32_t from_node);

  // All runs together; may hold duplicates.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<uint32_t>& exits() const { return exits_; }

 private:
  // The items after a node's bytes: a range of items_.
  struct Frame {
    uint32_t node;
    uint32_t items_begin;
    uint32_t items_end;
    Stacks::Mark mark;
    bool has_exit;  // is in exits_
  };

  // Whether the byte is allowed; its items are then on top of items_.
  bool advance(Frame* frame, uint8_t byte);

  const Grammar& grammar_;
  const Vocabulary& vocabulary_;
  Stacks stacks_;
  std::vector<Item> items_;
  std::vector<Frame> frames_;  // by depth below from_node
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> exits_;
};

}  // namespace ultraspeed::grammar
