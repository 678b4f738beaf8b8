// KV pages: fixed-size pieces of the caches of the full-attention layers, handed out to sessions.
// One page id stands for the same page in every such layer. Only the bookkeeping lives here; the
// keys and values lie in the executor. Sliding layers need none of it: their rings belong to a
// sequence index.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ultraspeed::engine {

// A free list with a reference count a page. References of cached prefixes are counted apart: a
// page without others is available, though not free before they let it go.
class KvPagePool {
 public:
  explicit KvPagePool(uint32_t num_pages);

  uint32_t num_pages() const { return static_cast<uint32_t>(references_.size()); }
  uint32_t num_free() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t num_reclaimable() const { return num_reclaimable_; }
  uint32_t num_available() const { return num_free() + num_reclaimable_; }

  // A page with one reference; nothing when none is free.
  std::optional<uint32_t> acquire();

  void retain(uint32_t page);   // one more reference. REQUIRES: the page is in use.
  void release(uint32_t page);  // one less; the last frees it. REQUIRES: the page is in use.

  // One of a page's references becomes a cached prefix's, or no longer is.
  void mark_cached(uint32_t page);
  void unmark_cached(uint32_t page);

 private:
  bool is_reclaimable(uint32_t page) const {
    return references_[page] > 0 && references_[page] == cached_[page];
  }
  // Changes a page's counts and keeps num_reclaimable_.
  template <class Change>
  void change(uint32_t page, const Change& change);

  std::vector<uint32_t> free_;        // a stack
  std::vector<uint32_t> references_;  // [num_pages]; 0: free
  std::vector<uint32_t> cached_;      // [num_pages]; of references_
  uint32_t num_reclaimable_ = 0;
};

// The pages of positions [0, capacity) of one sequence. Gives them back when it dies.
class KvPageTable {
 public:
  // page_positions 0: the model has no paged cache, and any position fits without a page. The pool
  // must outlive the table.
  KvPageTable(KvPagePool* pool, uint32_t page_positions)
      : pool_(pool), page_positions_(page_positions) {}
  ~KvPageTable() { clear(); }
  KvPageTable(KvPageTable&& other) noexcept;
  KvPageTable& operator=(KvPageTable&& other) noexcept;
  KvPageTable(const KvPageTable&) = delete;
  KvPageTable& operator=(const KvPageTable&) = delete;

  // Makes room for positions [0, num_positions); false, and nothing changed, when the pool has not
  // enough free pages.
  bool grow(uint32_t num_positions);

  // Takes the whole pages among positions [0, num_positions) of another table, without a copy. Both
  // may read them; neither writes below num_positions. REQUIRES: no pages yet.
  void share(const KvPageTable& other, uint32_t num_positions);

  // Gives back the pages that positions [0, num_positions) do not need.
  void shrink(uint32_t num_positions);

  void clear() { shrink(0); }

  // Its references are a cached prefix's from now on. REQUIRES: it does not grow any more.
  void become_cached();

  std::span<const uint32_t> pages() const { return pages_; }

 private:
  KvPagePool* pool_;
  uint32_t page_positions_;
  std::vector<uint32_t> pages_;
  bool is_cached_ = false;
};

// Pages that positions [0, num_positions) take; 0 when page_positions is 0.
constexpr uint32_t num_pages_for(uint32_t num_positions, uint32_t page_positions) {
  if (page_positions == 0 || num_positions == 0) return 0;
  return (num_positions - 1) / page_positions + 1;
}

}  // namespace ultraspeed::engine
