// Choosing a token where every rank has the logits of a share of the vocabulary: what ranks tell
// each other instead of these (docs/ranks.md, section 3). Ids of a rank's share are
// [rank, rank + 1) * vocab_size / ranks.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "program/operand_ids.h"
#include "program/step.h"

namespace ultraspeed::program {

// The log-softmax adds up pieces of so many ids (docs/numerics.md, section 2). A piece is summed by
// the rank that has its first logit, to which others send what they have of it.
inline constexpr uint32_t kLogitPiece = 1024;

// The most tokens that a rank names for a column.
inline constexpr uint32_t kMaxShortlist = 64;

struct TokenLogit {
  uint32_t token_id = kNoId;
  float value = 0;
};

// The largest of a rank's share of a column's logits, the first of equals; it goes to all ranks.
struct LogitPeaks {
  TokenLogit raw;
  // After ColumnSampling's adjustments and mask; if they made a logit that is not below infinity,
  // the first such.
  TokenLogit adjusted;
  float adjusted_raw = 0;  // the logit of adjusted.token_id before that
};

// A token that a rank names, and its logit after and before adjustments.
struct ShortlistedToken {
  uint32_t token_id = kNoId;
  float value = 0;
  float logit = 0;
};

// What of a rank's share may be chosen or reported, given the largest logits of all; it goes to
// rank 0.
struct LogitShortlist {
  // Without top_k: what the share's noise lets win, or a forced token; kNoId: none.
  double noisy = 0;
  ShortlistedToken winner;
  uint32_t num_top = 0, num_likely = 0;
  uint32_t padding = 0;
  std::array<ShortlistedToken, kMaxShortlist> top = {};  // with top_k: those largest, by id
  std::array<TokenLogit, kMaxShortlist> likely = {};     // the largest before adjustments, in order
};
static_assert(sizeof(LogitPeaks) == 20 && sizeof(LogitShortlist) % 8 == 0);

// Whether top_k leaves anything out.
constexpr bool cuts_top_k(const ColumnSampling& sampling, uint32_t vocab_size) {
  return sampling.top_k != 0 && sampling.top_k < vocab_size;
}

// Whether a column's token can only be chosen where all of its logits are: by rejection sampling,
// which compares distributions; by top_p of the whole vocabulary, whose probabilities are added up
// one by one; and where more tokens are to be named than fit.
constexpr bool needs_all_logits(const ColumnSampling& sampling, uint32_t vocab_size) {
  if (std::min(sampling.num_logprobs, vocab_size) > kMaxShortlist) return true;
  if (sampling.forced_token_id >= 0 || sampling.temperature == 0) return false;
  if (sampling.proposed_token_id >= 0 || sampling.draws_draft) return true;
  return cuts_top_k(sampling, vocab_size) ? sampling.top_k > kMaxShortlist : sampling.top_p < 1;
}

// Which ids and pieces of a vocabulary are a rank's.
struct LogitShare {
  constexpr LogitShare(uint32_t vocab_size_in, uint32_t num_ranks, uint32_t rank)
      : vocab_size(vocab_size_in),
        size(vocab_size_in / num_ranks),
        begin(rank * size),
        end(begin + size) {}

  // The pieces [first_piece(), end_piece()) begin in it, and reach to pieces_end().
  constexpr uint32_t first_piece() const { return (begin + kLogitPiece - 1) / kLogitPiece; }
  constexpr uint32_t end_piece() const { return (end + kLogitPiece - 1) / kLogitPiece; }
  constexpr uint32_t pieces_end() const {
    return first_piece() == end_piece() ? end : std::min(end_piece() * kLogitPiece, vocab_size);
  }
  // Its ids [begin, head_end()) are the rest of a piece that begins in head_owner()'s share.
  constexpr uint32_t head_end() const { return std::min(first_piece() * kLogitPiece, end); }
  constexpr uint32_t head_owner() const { return begin / kLogitPiece * kLogitPiece / size; }

  uint32_t vocab_size, size, begin, end;
};

constexpr uint32_t num_logit_pieces(uint32_t vocab_size) {
  return (vocab_size + kLogitPiece - 1) / kLogitPiece;
}

}  // namespace ultraspeed::program
