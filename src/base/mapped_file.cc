#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/check.h"

namespace ultraspeed {
namespace {

// Set while this thread copies out of a mapping; the handler jumps back to it.
thread_local sigjmp_buf* active_guard = nullptr;
struct sigaction previous_action;

void on_sigbus(int signal, siginfo_t* info, void* context) {
  if (active_guard != nullptr) siglongjmp(*active_guard, 1);
  // Not ours: give the signal to whoever had it before, or die by it as without us.
  if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
    previous_action.sa_sigaction(signal, info, context);
    return;
  }
  std::signal(SIGBUS, SIG_DFL);
  std::raise(SIGBUS);
}

void install_handler_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    US_CHECK(sigaction(SIGBUS, &action, &previous_action) == 0, "errno {}", errno);
  });
}

// False when the copy hit a page that no longer exists.
bool guarded_copy(std::byte* target, const std::byte* source, size_t count) {
  sigjmp_buf guard;
  // The handler runs with signals blocked (ThreadSanitizer blocks all): the jump restores the mask.
  if (sigsetjmp(guard, 1) != 0) {
    active_guard = nullptr;
    return false;
  }
  active_guard = &guard;
  // The handler runs on this thread: these fences keep the copy between the two stores.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(target, source, count);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  active_guard = nullptr;
  return true;
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  install_handler_once();
  // A FIFO is refused below; to open one would wait for a writer otherwise.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
    return make_error(code, "{}: cannot open: {}", path, std::strerror(errno));
  }
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return make_error(ErrorCode::kIo, "{}: not a regular file", path);
  }
  const auto size_bytes = static_cast<uint64_t>(info.st_size);
  void* data = nullptr;
  if (size_bytes > 0) {
    data = mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      return make_error(ErrorCode::kIo, "{}: cannot map {} bytes: {}", path, size_bytes,
                        std::strerror(error));
    }
  }
  ::close(fd);
  return MappedFile(path, static_cast<const std::byte*>(data), size_bytes);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_bytes_);
}

Status MappedFile::read(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_bytes_ || out.size() > size_bytes_ - offset) {
    return make_error(ErrorCode::kInvalidData, "{}: bytes [{}, {}) are beyond its {} bytes", path_,
                      offset, offset + out.size(), size_bytes_);
  }
  if (out.empty() || guarded_copy(out.data(), data_ + offset, out.size())) return {};
  return make_error(ErrorCode::kIo,
                    "{}: bytes [{}, {}) vanished: the file was truncated while in use", path_,
                    offset, offset + out.size());
}

// A fault maps neighbours that are cached, too: 64 KiB (Linux's fault_around_bytes), or all of what
// the kernel reads and keeps as one, at most 2 MiB.
void MappedFile::forget(uint64_t offset, uint64_t bytes) const {
  constexpr uint64_t kNeighbours = 2 << 20;
  if (offset >= size_bytes_ || bytes == 0) return;
  const uint64_t end = offset + std::min(bytes, size_bytes_ - offset);
  const uint64_t begin = (offset - std::min(offset, kNeighbours)) / kNeighbours * kNeighbours;
  madvise(const_cast<std::byte*>(data_) + begin, std::min(size_bytes_, end + kNeighbours) - begin,
          MADV_DONTNEED);
}

}  // namespace ultraspeed
