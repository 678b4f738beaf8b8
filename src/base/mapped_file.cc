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

void copy_rows(std::byte* target, const std::byte* data, const FileRows& rows) {
  const std::byte* source = data + rows.offset;
  for (uint64_t row = 0; row < rows.count; ++row) {
    std::memcpy(target + row * rows.row_bytes, source + row * rows.stride, rows.row_bytes);
  }
}

FileStamp stamp_of(const struct stat& info) {
  const auto nanoseconds = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size), nanoseconds(info.st_mtim),
          nanoseconds(info.st_ctim)};
}

// False when the copy hit a page that no longer exists.
bool guarded_copy(std::byte* target, const std::byte* data, const FileRows& rows) {
  sigjmp_buf guard;
  // The handler runs with signals blocked (ThreadSanitizer blocks all): the jump restores the mask.
  if (sigsetjmp(guard, 1) != 0) {
    active_guard = nullptr;
    return false;
  }
  active_guard = &guard;
  // The handler runs on this thread: these fences keep the copy between the two stores.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  copy_rows(target, data, rows);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  active_guard = nullptr;
  return true;
}

}  // namespace

Result<FileStamp> FileStamp::of(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) == 0) return stamp_of(info);
  return make_error(ErrorCode::kIo, "{}: cannot look at: {}", path, std::strerror(errno));
}

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
  return MappedFile(path, static_cast<const std::byte*>(data), stamp_of(info));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      stamp_(std::exchange(other.stamp_, {})),
      bytes_read_(other.bytes_read()) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(stamp_, other.stamp_);
  bytes_read_ = other.bytes_read_.exchange(bytes_read_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_bytes());
}

Status MappedFile::read(uint64_t offset, std::span<std::byte> out) const {
  return read_rows({.offset = offset, .row_bytes = out.size()}, out);
}

Status MappedFile::read_rows(const FileRows& rows, std::span<std::byte> out) const {
  US_CHECK(out.size() == rows.count * rows.row_bytes, "{} rows of {} bytes into {}", rows.count,
           rows.row_bytes, out.size());
  if (rows.count == 0) return {};
  const uint64_t taken = (rows.count - 1) * rows.stride + rows.row_bytes;
  if (rows.offset > size_bytes() || taken > size_bytes() - rows.offset) {
    return make_error(ErrorCode::kInvalidData, "{}: bytes [{}, {}) are beyond its {} bytes", path_,
                      rows.offset, rows.offset + taken, size_bytes());
  }
  if (out.empty()) return {};
  ask_ahead(rows.offset, taken);
  if (guarded_copy(out.data(), data_, rows)) {
    bytes_read_.fetch_add(out.size(), std::memory_order_relaxed);
    return {};
  }
  return make_error(ErrorCode::kIo,
                    "{}: bytes [{}, {}) vanished: the file was truncated while in use", path_,
                    rows.offset, rows.offset + taken);
}

// A fault reads little ahead, and threads at different places of one file spoil even that: a disk
// is asked for all of a larger piece at once. Rows that are far apart are not expected here.
void MappedFile::ask_ahead(uint64_t offset, uint64_t bytes) const {
  constexpr uint64_t kLarge = 128 << 10, kPage = 4096;
  if (bytes < kLarge) return;
  const uint64_t begin = offset / kPage * kPage;
  madvise(const_cast<std::byte*>(data_) + begin, offset + bytes - begin, MADV_WILLNEED);
}

// A fault maps neighbours that are cached, too: 64 KiB (Linux's fault_around_bytes), or all of what
// the kernel reads and keeps as one, at most 2 MiB.
void MappedFile::forget(uint64_t offset, uint64_t bytes) const {
  constexpr uint64_t kNeighbours = 2 << 20;
  if (offset >= size_bytes() || bytes == 0) return;
  const uint64_t end = offset + std::min(bytes, size_bytes() - offset);
  const uint64_t begin = (offset - std::min(offset, kNeighbours)) / kNeighbours * kNeighbours;
  madvise(const_cast<std::byte*>(data_) + begin, std::min(size_bytes(), end + kNeighbours) - begin,
          MADV_DONTNEED);
}

}  // namespace ultraspeed
