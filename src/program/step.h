// What one run of a program gets from the engine and gives back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace ultraspeed::program {

// Changes to one token's logit, applied before temperature: logit > 0 ? logit / repetition : logit
// * repetition, then + bias (logit bias minus presence and frequency penalties).
struct LogitAdjustment {
  int32_t token_id = 0;
  float repetition = 1;
  float bias = 0;
};

// A set of tokens, a bit each: [token_mask_words(vocab_size)].
using TokenMask = std::span<const uint64_t>;

constexpr size_t token_mask_words(size_t vocab_size) {
  return (vocab_size + 63) / 64;
}
constexpr bool contains(TokenMask mask, size_t token_id) {
  return (mask[token_id / 64] >> (token_id % 64) & 1) != 0;
}

// How one column's token is chosen: argmax of log p + Gumbel noise keyed by (seed, position, token)
// over the tokens that top_k, top_p and min_p keep, in this order; temperature 0 is the argmax.
struct ColumnSampling {
  float temperature = 0;
  uint32_t top_k = 0;  // 0: all
  float top_p = 1;
  float min_p = 0;
  uint64_t seed = 0;
  // >= 0: this token is proposed to be chosen. Chosen by rejection sampling then: it with its
  // probability, else another one by noise of its own. Without effect at temperature 0.
  int32_t proposed_token_id = -1;
  // With a proposed token that was drawn, as below, in the step before: the logits that it was
  // drawn from, ColumnOutput::proposed_logits; [vocab_size]. Empty: it was proposed without chance.
  std::span<const float> proposed_logits = {};
  // What the program drafts to follow the column's choice, the token of a drafted column after it
  // or those that MTP heads propose after an accepted column, is drawn from the drafter's
  // distribution under this temperature, top_k, top_p and min_p (not the adjustments, nor
  // `allowed`), by noise of its own. A drafted column's is chosen by rejection sampling, with what
  // it was drawn from. Else, and at temperature 0, it is the drafter's likeliest token, and a
  // drafted column's no proposal.
  bool draws_draft = false;
  uint32_t num_logprobs = 0;     // most likely tokens to report
  int32_t forced_token_id = -1;  // >= 0: choose this one (scoring, replay); its logprob is reported
  std::span<const LogitAdjustment> adjustments;  // sorted by token_id
  TokenMask allowed;                             // the tokens that may be chosen; empty: all

  bool draws() const { return draws_draft && temperature > 0; }
};

// One token of the step. The columns of a sequence are adjacent, in ascending position; where any
// of them is drafted, or the program has MTP heads, positions follow each other without gaps. The
// first is not drafted: it is the draft block's anchor.
struct Column {
  int32_t token_id = 0;     // ignored where is_drafted
  bool is_drafted = false;  // the program's draft part chooses the token (Program::is_drafting())
  uint32_t position = 0;
  uint32_t sequence = 0;      // index into StepInput::page_tables, and the ring the sequence owns
  bool wants_logits = false;  // choose a token after this column
  ColumnSampling sampling;
  // Of a sequence's last column where none wants logits: the tokens that come after it, at least
  // Program::num_mtp_heads().
  std::span<const int32_t> next_tokens;
};

// Whether a drafted column's token is drawn from the drafter's distribution.
// REQUIRES: columns that check_step() accepts, columns[i].is_drafted.
inline bool is_draft_drawn(std::span<const Column> columns, size_t i) {
  return columns[i - 1].sampling.draws();
}

struct StepInput {
  std::span<const Column> columns;  // at most Program::width
  // Per sequence: the KV pages of positions [0, n), one id for kv_page_positions positions each.
  std::span<const std::span<const uint32_t>> page_tables;
};

struct ColumnOutput {
  int32_t token_id = -1;  // -1: the column wanted no logits
  float logprob = 0;  // of the chosen token; raw: log-softmax before adjustments and temperature
  float logit = 0;    // of the chosen token, raw
  uint32_t accepted = 0;    // on a sequence's first logits column: accepted draft tokens
  int32_t drafted_id = -1;  // what a drafted column's token was
  std::vector<std::pair<int32_t, float>> top_logprobs;  // raw, descending
  // On a sequence's first logits column: what the MTP heads propose to come after the token that
  // the last accepted column chose; [Program::num_mtp_heads()].
  std::vector<int32_t> proposed_ids;
  // The logits that they were drawn from; [Program::num_mtp_heads()] [vocab_size], or empty where
  // they were not.
  std::vector<std::vector<float>> proposed_logits;
};

struct StepOutput {
  std::vector<ColumnOutput> columns;  // one per StepInput column
  double draft_s = 0;                 // of the draft part, or of the MTP heads; 0 without either
  bool is_resident = false;  // a kernel that stays on the device has run it, without a launch
};

}  // namespace ultraspeed::program
