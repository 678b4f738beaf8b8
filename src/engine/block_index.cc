#include "engine/block_index.h"

#include <sodium.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace ultraspeed::engine {
namespace {

// A top bit that is always set keeps a name apart from 0, and of one size in formats that write
// small numbers short.
constexpr BlockHash kTopBit = BlockHash{1} << 63;

void add_bytes(crypto_generichash_state* state, const void* data, size_t size) {
  crypto_generichash_update(state, static_cast<const unsigned char*>(data), size);
}

}  // namespace

BlockHash block_hash(std::string_view domain, std::optional<BlockHash> parent,
                     std::span<const int32_t> tokens) {
  std::array<unsigned char, crypto_generichash_BYTES_MIN> digest;
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, digest.size());
  // No parent is 0, so that what follows the first number is a domain there and tokens elsewhere.
  const BlockHash before = parent.value_or(0);
  add_bytes(&state, &before, sizeof before);
  if (!parent) {
    const uint64_t size = domain.size();
    add_bytes(&state, &size, sizeof size);
    add_bytes(&state, domain.data(), domain.size());
  }
  add_bytes(&state, tokens.data(), tokens.size_bytes());
  crypto_generichash_final(&state, digest.data(), digest.size());
  BlockHash hash = 0;
  std::memcpy(&hash, digest.data(), sizeof hash);
  return hash | kTopBit;
}

void BlockIndex::hold(uint32_t slot, const HeldText& held) {
  Slot& entry = slots_[slot];
  if (entry.text_id == held.text_id) {
    const size_t num_blocks = held.tokens.size() / page_positions_;
    if (num_blocks < entry.hashes.size()) release(&entry.hashes, num_blocks);
    if (num_blocks > entry.hashes.size()) retain(held, &entry.hashes);
    return;
  }
  std::vector<BlockHash> hashes;
  retain(held, &hashes);
  release(&entry.hashes, 0);
  entry = {held.text_id, std::move(hashes)};
}

// Appends the text's blocks behind those that `hashes` has. Where one is new, so are all after it.
void BlockIndex::retain(const HeldText& held, std::vector<BlockHash>* hashes) {
  StoredBlocks stored;
  for (size_t i = hashes->size(); i < held.tokens.size() / page_positions_; ++i) {
    const auto tokens = held.tokens.subspan(i * page_positions_, page_positions_);
    const auto parent = i == 0 ? std::nullopt : std::optional(hashes->back());
    const BlockHash hash = block_hash(held.domain, parent, tokens);
    hashes->push_back(hash);
    if (++counts_[hash] > 1) continue;
    if (stored.hashes.empty()) stored.parent = parent;
    stored.hashes.push_back(hash);
    stored.tokens.insert(stored.tokens.end(), tokens.begin(), tokens.end());
  }
  if (stored.hashes.empty()) return;
  stored.domain = held.domain;
  stored_.push_back(std::move(stored));
}

void BlockIndex::release(std::vector<BlockHash>* hashes, size_t num_kept) {
  for (; hashes->size() > num_kept; hashes->pop_back()) released_.push_back(hashes->back());
}

CacheChange BlockIndex::take_change() {
  CacheChange change{.stored = std::exchange(stored_, {})};
  for (const BlockHash hash : std::exchange(released_, {})) {
    const auto count = counts_.find(hash);
    US_CHECK(count != counts_.end(), "block {:#x} is held by no slot", hash);
    if (--count->second > 0) continue;
    counts_.erase(count);
    change.removed.push_back(hash);
  }
  const bool had_any = std::exchange(held_any_, !counts_.empty());
  if (had_any && counts_.empty()) return {.is_cleared = true};
  return change;
}

}  // namespace ultraspeed::engine
