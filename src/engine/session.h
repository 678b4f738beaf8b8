// One text in the making: its tokens, how many of them are in the cache, and when it ends.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/host_drafter.h"
#include "engine/kv_pages.h"
#include "engine/penalties.h"
#include "engine/prefix_cache.h"
#include "program/step.h"

namespace ultraspeed::engine {

// The next step computes the pending tokens, those not in the cache: the rest of the prompt at
// first, afterwards the newest token, the anchor of a block. The last pending token gives the next
// token; each draft after it that proves right gives one more. Rows of wrong drafts stay in the
// cache behind num_cached_ until others overwrite them.
class Session {
 public:
  // max_context counts prompt and output together. Without a host drafter the program drafts.
  // vocab_size is that of the logits, which a constraint masks.
  // REQUIRES: 0 < prompt.size() < max_context, and checked params, for which session_drafter()
  // allows that the program drafts where it does.
  Session(SessionId id, std::span<const int32_t> prompt, GenerationParams params,
          uint32_t max_context, uint32_t vocab_size, KvPageTable pages,
          std::unique_ptr<HostDrafter> drafter);

  SessionId id() const { return id_; }
  uint32_t num_pending() const { return static_cast<uint32_t>(tokens_.size()) - num_cached_; }
  uint32_t num_cached() const { return num_cached_; }
  uint32_t prompt_tokens_done() const { return prompt_tokens_done_; }
  uint32_t prompt_tokens_cached() const { return prompt_tokens_cached_; }
  std::span<const uint32_t> pages() const { return pages_.pages(); }
  const KvPageTable& page_table() const { return pages_; }
  KvPageTable& page_table() { return pages_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> prompt() const { return std::span(tokens_).first(prompt_size_); }
  const GenerationParams& params() const { return params_; }
  HeldText held() const {
    return {params_.cache_domain, std::span(tokens_).first(num_held()), num_written_, id_};
  }

  // How many positions of the prompt a fork may take from the caches: all but the last token's,
  // which chooses the first of the output, or none where the rings have lost what comes before.
  uint32_t num_forkable(uint32_t ring_slack) const;

  // The caches hold the first `num_positions` tokens already, in rings in which as many as
  // `num_written` were written. REQUIRES: is_untouched().
  void adopt(uint32_t num_positions, uint32_t num_written);

  // Whether a step has computed nothing of it yet, since it was made or has lost its pages.
  bool is_untouched() const { return num_cached_ == num_adopted_; }

  // Position `mark` is worth going on from by other texts, also when the rings have lost it.
  void add_mark(uint32_t mark) { marks_.push_back(mark); }

  // Whether the rings would lose a mark by the next step, of `count` columns; forgets it.
  bool loses_mark(uint32_t count, const PrefixRules& rules);

  // Gives its pages up; what the caches held will be computed again, which is no news to anybody.
  void lose_pages();

  // What the caches hold of it, for others. REQUIRES: the session ends.
  PrefixCache::Prefix take_remains();

  // Whether the constraint, if there is one, allows any token after the output so far.
  bool may_go_on() { return allows_after(0); }

  // Gives back the room that wrong drafts took.
  void trim() { pages_.shrink(num_cached_); }

  // Appends the columns of the first `count` pending tokens; the last wants logits if it is the
  // last pending one, else it names those that come after it. They stay valid until add_token.
  // REQUIRES: 0 < count <= num_pending(), reserved.
  void append_columns(uint32_t count, uint32_t sequence, std::vector<program::Column>* columns);

  // Has the constraint, or else the drafter, propose the next block, of at most `size` columns and
  // no more than there may be tokens, up to the first draft that a constraint forbids or lets
  // nothing follow; returns its columns. A program that drafts proposes as many as it is asked for.
  // REQUIRES: num_pending() == 1, size > 0.
  uint32_t propose_block(uint32_t size);

  // Appends the first `count` columns of the block: the anchor and drafts. Each wants logits and
  // counts the drafts before it. REQUIRES: count is 1 to what propose_block returned, reserved.
  void append_block(uint32_t count, uint32_t sequence, std::vector<program::Column>* columns);

  // The first `count` pending tokens, or columns of the block, are in the cache now.
  void advance(uint32_t count);

  // What the step's MTP heads propose to follow all tokens, after add_token() of the step's last.
  void take_proposed(program::ColumnOutput* output) {
    if (drafter_ != nullptr) drafter_->take_proposed(output);
  }

  // Takes the next token of the output; says whether it was the last, and why.
  std::optional<FinishReason> add_token(int32_t token_id);

 private:
  void add_column(uint32_t position, int32_t token_id, uint32_t sequence,
                  std::vector<program::Column>* columns);
  void ask_for_logits(std::span<const program::LogitAdjustment> adjustments, size_t num_drafts,
                      program::Column* column);
  void cut_forbidden_drafts();
  program::TokenMask mask_after(size_t num_drafts);
  bool allows_after(size_t num_drafts);
  // Of a block that a stop token cut off more is in the cache than there are tokens.
  uint32_t num_held() const { return std::min(num_cached_, static_cast<uint32_t>(tokens_.size())); }

  SessionId id_;
  GenerationParams params_;
  std::vector<int32_t> tokens_;  // prompt, then output
  uint32_t prompt_size_;
  uint32_t max_tokens_;       // of prompt and output together
  uint32_t num_cached_ = 0;   // tokens whose keys and values are in the cache
  uint32_t num_written_ = 0;  // positions that were ever written, wrong drafts included
  uint32_t num_adopted_ = 0;  // of num_cached_, taken over from other texts
  uint32_t prompt_tokens_done_ = 0;
  uint32_t prompt_tokens_cached_ = 0;
  std::vector<uint32_t> marks_;
  Penalties penalties_;
  KvPageTable pages_;
  std::unique_ptr<HostDrafter> drafter_;                 // nullptr: the program drafts
  std::unique_ptr<TokenConstraint> initial_constraint_;  // params_ points to it; may be null
  std::unique_ptr<TokenConstraint> constraint_;          // after the output so far
  uint32_t vocab_size_;                                  // of a mask

  // The block at hand; what its columns point to.
  std::vector<int32_t> drafts_;  // without meaning where the program drafts
  std::vector<std::vector<program::LogitAdjustment>>
      draft_adjustments_;                     // [draft], of those in the step
  std::vector<std::vector<uint64_t>> masks_;  // [drafts before]; empty: not asked for yet
};

}  // namespace ultraspeed::engine
