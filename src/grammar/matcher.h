// Follows a text through a grammar, token by token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/mask_table.h"
#include "grammar/stacks.h"

namespace ultraspeed::grammar {

// A copy is a fork: it costs a few bytes for each token and each bracket of the text so far. One
// thread at a time; the table may serve many matchers. REQUIRES: the table outlives it.
class Matcher {
 public:
  explicit Matcher(MaskTable* masks);

  // Whether the token may come next; if not, nothing changes. A stop token ends the text: none may
  // follow.
  bool accept(int32_t token);
  // The same for a piece of text, which rollback() counts as one token.
  bool accept_text(std::string_view text);

  // Takes back the newest tokens. REQUIRES: num_tokens <= num_accepted().
  void rollback(size_t num_tokens);
  size_t num_accepted() const { return history_.size() - 1; }

  // Sets the bits of the tokens that accept() would take and clears all others, those beyond the
  // vocabulary included. words: [at least mask_words(vocabulary size)].
  void fill_mask(std::span<uint64_t> words) const;

  // The masks before each token of a draft and after the last: words is [draft size + 1,
  // words_each]. Stops at the first token that is refused; returns the number of masks, one more
  // than tokens that were not. The matcher stays where it was.
  size_t fill_draft_masks(std::span<const int32_t> draft, size_t words_each,
                          std::span<uint64_t> words);

  // Whether the text may end here: stop tokens are allowed.
  bool is_complete() const;
  // Whether a stop token was accepted.
  bool is_stopped() const { return history_.back().is_stopped; }

  // The bytes that must come next, whatever is chosen: up to the first place with a choice, which
  // may be inside of a character. At most max_bytes.
  std::string jump_forward(size_t max_bytes = kMaxJumpBytes);
  // The same as tokens, for a draft: those that `encode` gives for the bytes, up to the first that
  // is not allowed.
  using Encode = std::function<std::vector<int32_t>(std::string_view)>;
  std::vector<int32_t> jump_forward_tokens(const Encode& encode, size_t max_bytes = kMaxJumpBytes);

  static constexpr size_t kMaxJumpBytes = 4096;

 private:
  // After a token: its items are the last of items_.
  struct Position {
    uint32_t items_begin;
    Stacks::Mark mark;
    bool is_stopped;
  };

  std::span<const Item> items() const {
    return std::span(items_).subspan(history_.back().items_begin);
  }
  bool advance(std::string_view bytes);
  ByteSet next_bytes() const;

  MaskTable* masks_;
  Stacks stacks_;
  std::vector<Item> items_;  // of all positions
  std::vector<Position> history_;
};

}  // namespace ultraspeed::grammar
