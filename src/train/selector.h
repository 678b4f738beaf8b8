// A drafter's pairwise selector in tensors: among the likeliest tokens of a row it prefers those
// that suit the token chosen before (docs/drafters.md). The score of candidate a after token b is
//   logit(a) + (Q w_a) . (P e_b * G h)
// with e and w rows of the target's tables and h the row after the net's final norm.
#pragma once

#include <torch/types.h>
#include <torch/utils.h>

#include <cstdint>

#include "train/drafter_net.h"

namespace ultraspeed::train {

struct Selector {
  int64_t num_candidates = 0;
  torch::Tensor predecessor, successor, hidden;  // P, Q and G [rank, hidden_size]
  // The target's tables [vocab_size, hidden_size], in the type of the products.
  torch::Tensor embedding, head;
};

// Of a net's parameters, which it shares. REQUIRES: the net has a selector.
Selector selector_of(const DrafterNet& net, const torch::Tensor& embedding,
                     const torch::Tensor& head);

// A row's likeliest tokens, likeliest first, as many as there are or `count`: [..., candidates].
struct Candidates {
  torch::Tensor ids;     // i64
  torch::Tensor logits;  // with their gradients
};
Candidates candidates_of(const torch::Tensor& logits, int64_t count);

// The candidates' scores after `previous`, i64 [...], for rows [..., hidden_size].
torch::Tensor score(const Selector& selector, const Candidates& candidates,
                    const torch::Tensor& previous, const torch::Tensor& rows);

// The tokens that a block drafts, i64 [blocks, masks]: after the anchor, i64 [blocks], and then
// each after the one chosen before. `logits`: [blocks, masks, vocab_size], `rows` [blocks, masks,
// hidden].
torch::Tensor choose(const Selector& selector, const torch::Tensor& logits,
                     const torch::Tensor& anchors, const torch::Tensor& rows);

}  // namespace ultraspeed::train
