// Which tokens a state allows by itself, and where its rule may end inside of a token.
#pragma once

#include <cstdint>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/plain_runs.h"
#include "grammar/stacks.h"
#include "grammar/vocabulary.h"

namespace ultraspeed::grammar {

// Walks the vocabulary's tree with the automata, leaving out what is below a refused byte.
class MaskWalk {
 public:
  // runs: plain_runs() of the grammar.
  MaskWalk(const Grammar& grammar, const Vocabulary& vocabulary, const std::vector<PlainRun>& runs);

  // From the state at a node of the tree, whose bytes are consumed. From the root, tokens of the
  // plain mask of the state's run, if that is exact, are left out.
  void run(StateId state, uint32_t from_node);

  // All runs together; may hold duplicates.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<uint32_t>& exits() const { return exits_; }

 private:
  // The items after a node's bytes: a range of items_.
  struct Frame {
    uint32_t node;
    uint32_t next_child;
    uint32_t items_begin;
    uint32_t items_end;
    Stacks::Mark mark;
    bool has_exit;  // is in exits_
  };

  uint32_t num_items() const { return static_cast<uint32_t>(items_.size()); }
  // Whether all tokens at the frame's node and below it are allowed, since they are plain.
  bool takes_all(const Frame& frame, uint8_t plain_characters) const;
  // Whether the state calls a rule that may begin with the byte.
  bool may_call(StateId state, uint8_t byte) const;

  // Whether the byte is allowed; its items are then on top of items_.
  bool advance(Frame* frame, uint8_t byte);
  void add_exit(Frame* frame);

  const Grammar& grammar_;
  const Vocabulary& vocabulary_;
  const std::vector<PlainRun>& runs_;
  Stacks stacks_;
  std::vector<Item> items_;
  std::vector<Frame> frames_;  // by depth below from_node
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> exits_;
};

}  // namespace ultraspeed::grammar
