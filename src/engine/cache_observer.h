// What others may be told of the caches: the blocks of texts that they hold. A router of several
// engines sends a prompt to the one that holds most of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ultraspeed::engine {

// A block is as many tokens as a KV page has positions. Its name comes from them, from those before
// them and from the text's domain, so that it is the same in every engine and every run.
using BlockHash = uint64_t;

// Consecutive blocks of a text, which the caches did not hold before.
struct StoredBlocks {
  std::string domain;               // GenerationParams::cache_domain
  std::optional<BlockHash> parent;  // the block before them; none: they begin the text
  std::vector<BlockHash> hashes;    // [num_blocks]
  std::vector<int32_t> tokens;      // [num_blocks, page_positions]

  bool operator==(const StoredBlocks&) const = default;
};

// In this order; of several that depend on each other, parents are stored first and removed last.
struct CacheChange {
  bool is_cleared = false;  // nothing is held any more; the rest is empty
  std::vector<StoredBlocks> stored = {};
  std::vector<BlockHash> removed = {};

  bool is_empty() const { return !is_cleared && stored.empty() && removed.empty(); }
  bool operator==(const CacheChange&) const = default;
};

class CacheObserver {
 public:
  virtual ~CacheObserver() = default;
  // On the engine's thread, which has a step to do: keeps the change and returns.
  virtual void on_change(CacheChange change) = 0;
};

}  // namespace ultraspeed::engine
