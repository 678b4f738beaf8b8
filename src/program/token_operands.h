// The operands of what chooses, proposes and accepts tokens, as operands.h has them for the rest.
// Reached through it.
#pragma once

#include <array>
#include <cstdint>

#include "program/opcode.h"
#include "program/operand_ids.h"
#include "tensor/host_device.h"

namespace ultraspeed::program {

// A choice over logits that ranks have shares of is made in three stages (logit_shards.h); over
// those on rank 0 in one.
enum class SamplePart : uint8_t {
  kWhole,
  kPeaks,      // of each rank's share, to all; with what others sum, or need rank 0 to have
  kShortlist,  // what of each share may win, and sums of pieces, to rank 0
  kChoice,     // from these
};

// sampled[t] = the token that the column's sampling parameters choose (step.h). Where the draft of
// column t + 1 was drawn, it is proposed, with the probabilities of the drafter's logits there.
// Tile: columns t; kPeaks and kShortlist one each, on every rank.
struct SampleOperands {
  static constexpr Opcode kOpcode = Opcode::kSample;
  BufferId logits = kNoId;   // [T, vocab_size], on rank 0; in parts, on each rank its share and
                             // what others send, tiled by columns, too
  BufferId sampled = kNoId;  // i32 [T]; kNoId: made by another part
  uint32_t vocab_size = 0;
  // What Propose read and made in the draft part; kNoId: a program that drafts nothing.
  BufferId draft_logits = kNoId, drafted = kNoId;
  SamplePart part = SamplePart::kWhole;
  // Of the parts that make or take them.
  BufferId peaks = kNoId;       // LogitPeaks [T, ranks], on all ranks
  BufferId piece_sums = kNoId;  // f32 [T, num_logit_pieces()], on rank 0
  BufferId shortlists = kNoId;  // LogitShortlist [T, ranks], on rank 0
};

inline constexpr uint32_t kMaxNominees = 16, kMaxSelectorRank = 128;

// nominees[t] = of a drafted column the num_nominees tokens with the largest logits, the larger and
// of equals the lower id first, and behind the ids their logits. Where column t - 1 draws (step.h),
// the token that is drawn alone. Empty places hold the id kNoId. Tile: columns t.
// Of logits that ranks have shares of, each rank nominates from its own and tells rank 0, which
// gets the share itself where a token is to be drawn. With `accepted`, then, of the columns and
// draws that Propose's operands mean by it. Tile: columns t, on every rank.
struct NominateOperands {
  static constexpr Opcode kOpcode = Opcode::kNominate;
  BufferId logits = kNoId;    // [T, vocab_size], on rank 0; or, tiled by columns, too, of shares
  BufferId nominees = kNoId;  // [T, 2 * num_nominees]: u32 ids, f32 logits; of shares one more
                              // dimension, [T, ranks, ...], on rank 0
  uint32_t vocab_size = 0;
  uint32_t num_nominees = 0;  // 2 to kMaxNominees; of shares from 1 on
  BufferId accepted = kNoId;  // i32 [T]
  uint8_t of_share = 0;
};

// How a drafter's selector scores nominee a of column t after token b, f32: logit(a) + sum over r,
// in order by fma, of successors[a, r] * (predecessors[b, r] * rows[t, r]); where column t - 1 has
// a temperature, divided by it, and with the noise of Sample's choice there.
struct SelectorRef {
  BufferId nominees = kNoId;            // [T, 2 * num_nominees]; kNoId: no selector
  BufferId rows = kNoId;                // [T, rank], on rank 0
  WeightId predecessors = kNoId;        // f32 [vocab_size, rank]
  WeightId successors = kNoId;          // f32 [vocab_size, rank]
  uint16_t num_nominees = 0, rank = 0;  // at most kMaxNominees, kMaxSelectorRank
};

// drafted[t] = the id of the largest logit of a drafted column, the lower of equals, or an id drawn
// from the logits where column t - 1 says so (step.h, draws_draft); broadcast to all ranks. With
// `accepted`, instead, of an accepted column that wants logits (Follow), where that column says so;
// and the host gets it, too. With a selector, instead, a drafted column's nominee with the largest
// score after the token of column t - 1, which is drafted[t - 1] or the anchor; the first of
// equals. Tile: columns t; with a selector the whole step, one task on rank 0.
struct ProposeOperands {
  static constexpr Opcode kOpcode = Opcode::kPropose;

  // Of drafted columns: the last of its tasks ends a step's draft part. Else of an MTP head.
  US_HOST_DEVICE constexpr bool ends_draft() const { return accepted == kNoId; }

  BufferId logits = kNoId;   // [T, vocab_size], on rank 0
  BufferId drafted = kNoId;  // i32 [T]
  uint32_t vocab_size = 0;
  BufferId accepted = kNoId;  // i32 [T]; set: what an MTP head proposes for the next step
  uint32_t head = 0;          // which; its noise has a stream of its own
  SelectorRef selector;
  // What ranks nominate from their shares, of which `logits` on rank 0 are complete only where a
  // token is drawn: [T, ranks, 2 * num_nominees()]; kNoId: logits are all on rank 0. A selector's
  // are the same ones.
  BufferId nominees = kNoId;

  US_HOST_DEVICE constexpr uint32_t num_nominees() const {
    return selects() ? selector.num_nominees : 1;
  }
  US_HOST_DEVICE constexpr bool selects() const { return selector.nominees != kNoId; }
};

// The stream of the noise by which an MTP head draws after an accepted column. No two steps of a
// text share one: heads see what they proposed before, right or wrong.
constexpr uint32_t draft_stream(uint32_t position, uint32_t head) {
  return position * kMaxMtpHeads + head;
}

// accepted[s] = how many draft tokens of sequence s equal what the target chose one column before:
// the longest prefix with token_id[c + 1] == sampled[c] over the sequence's logits columns, where a
// drafted column's token_id is drafted[c + 1].
// Tile: the whole step, one task on rank 0.
struct AcceptOperands {
  static constexpr Opcode kOpcode = Opcode::kAccept;
  BufferId sampled = kNoId;   // i32 [T]
  BufferId accepted = kNoId;  // i32 [T], indexed by the sequence's first logits column
  BufferId drafted = kNoId;   // i32 [T]; kNoId: a program that drafts nothing
  uint8_t broadcast = 0;      // 1: accepted goes to all ranks
};

// tokens[t] = the token `distance` positions after column t, for head distance - 1; broadcast to
// all ranks. A sequence's accepted column is its first logits column + accepted[that], without
// logits its last. Up to it the text is the columns' token_id; after it come sampled and then what
// the heads before proposed there, without logits Column::next_tokens. Columns behind the accepted
// one are of no text and take the last of these tokens. Tile: the whole step, one task on rank 0.
struct FollowOperands {
  static constexpr Opcode kOpcode = Opcode::kFollow;
  using Proposed = std::array<BufferId, kMaxMtpHeads - 1>;
  static constexpr Proposed kNoneProposed = {kNoId, kNoId, kNoId, kNoId, kNoId, kNoId, kNoId};

  // Of the first MTP head.
  US_HOST_DEVICE constexpr bool begins_heads() const { return distance == 1; }

  BufferId sampled = kNoId;           // i32 [T]
  BufferId accepted = kNoId;          // i32 [T], as in Accept
  Proposed proposed = kNoneProposed;  // i32 [T] of the distance - 1 heads before
  BufferId tokens = kNoId;            // i32 [T]
  uint32_t distance = 1;              // 1 to kMaxMtpHeads
};

}  // namespace ultraspeed::program
