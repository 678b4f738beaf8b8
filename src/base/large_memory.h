// A large block of zeroed memory, in huge pages where the system has them: a decode step reads all
// of the weights, and 4 KiB pages would cost a look-up in the page tables each.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"

namespace ultraspeed {

class LargeMemory {
 public:
  LargeMemory() = default;
  // Errors: kOutOfMemory, with the size.
  static Result<LargeMemory> allocate(size_t size_bytes);
  ~LargeMemory();
  LargeMemory(LargeMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  LargeMemory& operator=(LargeMemory&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  LargeMemory(const LargeMemory&) = delete;
  LargeMemory& operator=(const LargeMemory&) = delete;

  std::span<std::byte> bytes() const { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace ultraspeed
