#include "engine/kv_pages.h"

#include <utility>

#include "base/check.h"

namespace ultraspeed::engine {

KvPagePool::KvPagePool(uint32_t num_pages) : references_(num_pages, 0) {
  free_.reserve(num_pages);
  for (uint32_t page = num_pages; page > 0; --page) free_.push_back(page - 1);
}

std::optional<uint32_t> KvPagePool::acquire() {
  if (free_.empty()) return std::nullopt;
  const uint32_t page = free_.back();
  free_.pop_back();
  references_[page] = 1;
  return page;
}

void KvPagePool::retain(uint32_t page) {
  US_CHECK(page < references_.size() && references_[page] > 0, "KV page {} is not in use", page);
  ++references_[page];
}

void KvPagePool::release(uint32_t page) {
  US_CHECK(page < references_.size() && references_[page] > 0, "KV page {} is not in use", page);
  if (--references_[page] == 0) free_.push_back(page);
}

KvPageTable::KvPageTable(KvPageTable&& other) noexcept
    : pool_(other.pool_),
      page_positions_(other.page_positions_),
      pages_(std::exchange(other.pages_, {})) {}

bool KvPageTable::grow(uint32_t num_positions) {
  const uint32_t needed = num_pages_for(num_positions, page_positions_);
  if (needed <= pages_.size()) return true;
  if (needed - pages_.size() > pool_->num_free()) return false;
  while (pages_.size() < needed) pages_.push_back(*pool_->acquire());
  return true;
}

void KvPageTable::share(const KvPageTable& other, uint32_t num_positions) {
  US_CHECK(pages_.empty(), "{} pages", pages_.size());
  const uint32_t whole_pages = page_positions_ == 0 ? 0 : num_positions / page_positions_;
  for (const uint32_t page : other.pages().first(whole_pages)) {
    pool_->retain(page);
    pages_.push_back(page);
  }
}

void KvPageTable::shrink(uint32_t num_positions) {
  const uint32_t needed = num_pages_for(num_positions, page_positions_);
  while (pages_.size() > needed) {
    pool_->release(pages_.back());
    pages_.pop_back();
  }
}

}  // namespace ultraspeed::engine
