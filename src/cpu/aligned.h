// Arrays on cache lines of their own: a vector of 64 bytes that lies across two lines costs two
// loads.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace ultraspeed::cpu {

constexpr size_t kCacheLineBytes = 64;

template <class T>
struct CacheLineAllocator {
  using value_type = T;

  CacheLineAllocator() = default;
  template <class Other>
  explicit CacheLineAllocator(const CacheLineAllocator<Other>&) {}

  T* allocate(size_t count) {
    return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{kCacheLineBytes}));
  }
  void deallocate(T* memory, size_t) {
    ::operator delete (memory, std::align_val_t{kCacheLineBytes});
  }
  bool operator==(const CacheLineAllocator&) const { return true; }
};

template <class T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

}  // namespace ultraspeed::cpu
