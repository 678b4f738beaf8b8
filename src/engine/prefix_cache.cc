#include "engine/prefix_cache.h"

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::engine {

void PrefixSearch::look_at(uint32_t slot, const HeldText& held) {
  if (held.domain != domain_) return;
  const auto wanted = prompt_.first(prompt_.size() - 1);
  const auto ends = std::ranges::mismatch(held.tokens, wanted);
  const auto num_common = static_cast<uint32_t>(ends.in2 - wanted.begin());
  num_common_ = std::max(num_common_, num_common);
  if (num_common <= rules_.look_ahead) return;
  const uint32_t num_positions = num_common - rules_.look_ahead;
  if (num_positions < rules_.first_usable(held.num_written)) return;
  if (!best_ || num_positions > best_->num_positions) {
    best_ = rules_.source(slot, num_positions, held.num_written);
  }
}

// Whether whatever `other` gives `one` gives, too.
bool PrefixCache::covers(const Prefix& one, const Prefix& other) const {
  return one.domain == other.domain && one.tokens.size() >= other.tokens.size() &&
         rules_.first_usable(one.num_written) <= rules_.first_usable(other.num_written) &&
         std::equal(other.tokens.begin(), other.tokens.end(), one.tokens.begin());
}

void PrefixCache::insert(uint32_t slot, Prefix prefix) {
  US_CHECK(!entries_[slot], "slot {} holds a prefix", slot);
  for (uint32_t other = 0; other < entries_.size(); ++other) {
    if (!entries_[other]) continue;
    if (covers(entries_[other]->prefix, prefix)) return touch(other);
    if (covers(prefix, entries_[other]->prefix)) entries_[other].reset();
  }
  prefix.pages.become_cached();
  entries_[slot].emplace(Entry{std::move(prefix)});
  touch(slot);
}

void PrefixCache::search(PrefixSearch* search) const {
  for (uint32_t slot = 0; slot < entries_.size(); ++slot) {
    if (entries_[slot]) search->look_at(slot, entries_[slot]->prefix.held());
  }
}

void PrefixCache::touch(uint32_t slot) {
  if (entries_[slot]) entries_[slot]->last_touch = ++num_touches_;
}

bool PrefixCache::evict_oldest(std::optional<uint32_t> kept) {
  std::optional<Entry>* oldest = nullptr;
  for (uint32_t slot = 0; slot < entries_.size(); ++slot) {
    std::optional<Entry>& entry = entries_[slot];
    if (!entry || slot == kept) continue;
    if (oldest == nullptr || entry->last_touch < (*oldest)->last_touch) oldest = &entry;
  }
  if (oldest == nullptr) return false;
  oldest->reset();
  return true;
}

void PrefixCache::clear() {
  for (auto& entry : entries_) entry.reset();
}

}  // namespace ultraspeed::engine
