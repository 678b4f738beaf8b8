#include "base/large_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

namespace ultraspeed {

Result<LargeMemory> LargeMemory::allocate(size_t size_bytes) {
  LargeMemory memory;
  if (size_bytes == 0) return memory;
  void* address =
      mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    return make_error(ErrorCode::kOutOfMemory, "cannot allocate {} bytes: {}", size_bytes,
                      std::strerror(errno));
  }
  // A wish: where it is refused, small pages serve.
  madvise(address, size_bytes, MADV_HUGEPAGE);
  memory.bytes_ = {static_cast<std::byte*>(address), size_bytes};
  return memory;
}

LargeMemory::~LargeMemory() {
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace ultraspeed
