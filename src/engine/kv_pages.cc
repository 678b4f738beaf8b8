#include "engine/kv_pages.h"

#include <utility>

#include "base/check.h"

namespace ultraspeed::engine {

KvPagePool::KvPagePool(uint32_t num_pages) : references_(num_pages, 0), cached_(num_pages, 0) {
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

template <class Change>
void KvPagePool::change(uint32_t page, const Change& change) {
  US_CHECK(page < references_.size() && references_[page] > 0, "KV page {} is not in use", page);
  num_reclaimable_ -= is_reclaimable(page) ? 1 : 0;
  change();
  num_reclaimable_ += is_reclaimable(page) ? 1 : 0;
}

void KvPagePool::retain(uint32_t page) {
  change(page, [&] { ++references_[page]; });
}

void KvPagePool::release(uint32_t page) {
  change(page, [&] { --references_[page]; });
  if (references_[page] == 0) free_.push_back(page);
}

void KvPagePool::mark_cached(uint32_t page) {
  change(page, [&] { ++cached_[page]; });
}

void KvPagePool::unmark_cached(uint32_t page) {
  change(page, [&] { --cached_[page]; });
}

KvPageTable::KvPageTable(KvPageTable&& other) noexcept
    : pool_(other.pool_),
      page_positions_(other.page_positions_),
      pages_(std::exchange(other.pages_, {})),
      is_cached_(other.is_cached_) {}

KvPageTable& KvPageTable::operator=(KvPageTable&& other) noexcept {
  if (this == &other) return *this;
  clear();
  pool_ = other.pool_;
  page_positions_ = other.page_positions_;
  pages_ = std::exchange(other.pages_, {});
  is_cached_ = other.is_cached_;
  return *this;
}

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
    if (is_cached_) pool_->unmark_cached(pages_.back());
    pool_->release(pages_.back());
    pages_.pop_back();
  }
}

void KvPageTable::become_cached() {
  US_CHECK(!is_cached_, "{} pages are a cached prefix's already", pages_.size());
  for (const uint32_t page : pages_) pool_->mark_cached(page);
  is_cached_ = true;
}

}  // namespace ultraspeed::engine
