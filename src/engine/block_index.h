// Which blocks the caches hold, and what has changed since somebody was told. A block that several
// texts share counts once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/cache_observer.h"
#include "engine/prefix_cache.h"

namespace ultraspeed::engine {

// The name of the block of these tokens behind `parent`, or at a text's begin.
BlockHash block_hash(std::string_view domain, std::optional<BlockHash> parent,
                     std::span<const int32_t> tokens);

class BlockIndex {
 public:
  // REQUIRES: page_positions > 0.
  BlockIndex(uint32_t num_slots, uint32_t page_positions)
      : page_positions_(page_positions), slots_(num_slots) {}

  // What a slot holds from now on.
  void hold(uint32_t slot, const HeldText& held);

  // The change by all calls of hold() since the last one.
  CacheChange take_change();

 private:
  struct Slot {
    uint64_t text_id = 0;
    std::vector<BlockHash> hashes;  // of the text's whole blocks, in order
  };

  void retain(const HeldText& held, std::vector<BlockHash>* hashes);
  void release(std::vector<BlockHash>* hashes, size_t num_kept);

  uint32_t page_positions_;
  std::vector<Slot> slots_;
  std::unordered_map<BlockHash, uint32_t> counts_;  // of slots that hold it; > 0
  std::vector<StoredBlocks> stored_;
  // Let go, children first; what another slot takes over before take_change() stays.
  std::vector<BlockHash> released_;
  bool held_any_ = false;  // at the last take_change()
};

}  // namespace ultraspeed::engine
