// One text in the making: its tokens, how many of them are in the cache, and when it ends.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv_pages.h"
#include "engine/penalties.h"
#include "program/step.h"

namespace ultraspeed::engine {

// The next step computes the pending tokens, those not in the cache: the rest of the prompt at
// first, afterwards the newest token. The last of them gives the next token.
class Session {
 public:
  // max_context counts prompt and output together. REQUIRES: 0 < prompt.size() < max_context, and
  // checked params.
  Session(SessionId id, std::span<const int32_t> prompt, GenerationParams params,
          uint32_t max_context, KvPageTable pages);

  SessionId id() const { return id_; }
  uint32_t num_pending() const { return static_cast<uint32_t>(tokens_.size()) - num_cached_; }
  uint32_t prompt_tokens_done() const { return std::min(num_cached_, prompt_size_); }
  bool in_prompt() const { return num_cached_ < prompt_size_; }
  std::span<const uint32_t> pages() const { return pages_.pages(); }

  // Makes room for the next `count` tokens; false when no KV page is free.
  bool reserve(uint32_t count) { return pages_.grow(num_cached_ + count); }

  // Appends the columns of the first `count` pending tokens; the last wants logits if it is the
  // last pending one. They stay valid until add_token. REQUIRES: 0 < count <= num_pending(),
  // reserved.
  void append_columns(uint32_t count, uint32_t sequence,
                      std::vector<program::Column>* columns) const;

  // The first `count` pending tokens are in the cache now.
  void advance(uint32_t count) { num_cached_ += count; }

  // Takes the next token of the output; says whether it was the last, and why.
  std::optional<FinishReason> add_token(int32_t token_id);

 private:
  SessionId id_;
  GenerationParams params_;
  std::vector<int32_t> tokens_;  // prompt, then output
  uint32_t prompt_size_;
  uint32_t max_tokens_;      // of prompt and output together
  uint32_t num_cached_ = 0;  // tokens whose keys and values are in the cache
  Penalties penalties_;
  KvPageTable pages_;
};

}  // namespace ultraspeed::engine
