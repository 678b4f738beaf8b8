// What the caches keep of texts whose sessions have ended, so that prompts which begin alike need
// not be computed again. Only the bookkeeping lives here; keys and values lie in the executor.
//
// A prefix has pages, of full-attention layers, and a slot, the sequence that owns the rings of
// sliding ones. Pages hold every position. A ring has lost what lies its length before the last
// position written, and to go on from a position a layer needs the window before it: so of a long
// text only positions near its end can be taken over, and where others are worth it, the engine
// copies the rings in time (Session::loses_mark). Without rings any position can.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/kv_pages.h"

namespace ultraspeed::engine {

// What a slot's caches hold.
struct HeldText {
  std::string_view domain;          // GenerationParams::cache_domain
  std::span<const int32_t> tokens;  // whose keys and values are in the caches
  uint32_t num_written = 0;         // positions that were ever written, wrong drafts included
  // Where it is the same, one's tokens are the other's beginning. 0: without any.
  uint64_t text_id = 0;
};

// The positions that a prompt takes over from a slot.
struct PrefixSource {
  uint32_t slot = 0;
  uint32_t num_positions = 0;  // > 0
  uint32_t num_written = 0;    // HeldText::num_written, of the copy of its rings
  uint32_t ring_skipped = 0;   // of that copy: CacheCopy
};

struct PrefixRules {
  uint32_t ring_slack = 0;  // ring_slack_of()
  // Tokens after a position that its keys and values depend on: those that MTP heads look at.
  uint32_t look_ahead = 0;

  // The first position that may be gone on from.
  uint32_t first_usable(uint32_t num_written) const {
    return num_written > ring_slack ? num_written - ring_slack : 0;
  }

  // Of rings that have lost the text's begin the window alone is copied, which is all that it takes
  // to go on; they count as written as far as leaves no other position usable.
  PrefixSource source(uint32_t slot, uint32_t num_positions, uint32_t num_written) const {
    if (first_usable(num_written) == 0) return {slot, num_positions, num_written};
    return {slot, num_positions, num_positions + ring_slack, ring_slack};
  }
};

// Looks for the longest beginning of a prompt, which must outlive it.
class PrefixSearch {
 public:
  PrefixSearch(std::string_view domain, std::span<const int32_t> prompt, const PrefixRules& rules)
      : domain_(domain), prompt_(prompt), rules_(rules) {}

  void look_at(uint32_t slot, const HeldText& held);

  // All but the prompt's last token, which chooses the first of the output, may be taken over.
  const std::optional<PrefixSource>& best() const { return best_; }
  // Tokens that some text had in common with the prompt, even if its rings have lost them.
  uint32_t num_common() const { return num_common_; }

 private:
  std::string_view domain_;
  std::span<const int32_t> prompt_;
  PrefixRules rules_;
  std::optional<PrefixSource> best_;
  uint32_t num_common_ = 0;
};

class PrefixCache {
 public:
  struct Prefix {
    std::string domain;
    std::vector<int32_t> tokens;
    uint32_t num_written;
    KvPageTable pages;     // of the tokens
    uint64_t text_id = 0;  // HeldText::text_id

    HeldText held() const { return {domain, tokens, num_written, text_id}; }
  };

  PrefixCache(uint32_t num_slots, const PrefixRules& rules) : entries_(num_slots), rules_(rules) {}

  // Keeps a prefix, and none that gives nothing which another one does not. REQUIRES: the slot is
  // not in use.
  void insert(uint32_t slot, Prefix prefix);

  // nullptr: the slot is not in use.
  const Prefix* find(uint32_t slot) const {
    return entries_[slot] ? &entries_[slot]->prefix : nullptr;
  }
  void search(PrefixSearch* search) const;

  void touch(uint32_t slot);  // it is worth keeping; unknown slots are ignored

  // Drops the prefix that was touched longest ago, but not `kept`; says whether there was one.
  bool evict_oldest(std::optional<uint32_t> kept = std::nullopt);
  void clear();

 private:
  struct Entry {
    Prefix prefix;
    uint64_t last_touch = 0;
  };

  bool covers(const Prefix& one, const Prefix& other) const;

  std::vector<std::optional<Entry>> entries_;  // [slot]
  PrefixRules rules_;
  uint64_t num_touches_ = 0;
};

}  // namespace ultraspeed::engine
