// A read-only memory-mapped file whose every read is guarded: a file that another process truncates
// while it is mapped gives an Error, never a SIGBUS. The mapping's address is not handed out.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace ultraspeed {

// What the file system says of a file. The time of change is the kernel's own: nobody sets it, and
// writing, truncating, renaming and setting the other time all move it.
struct FileStamp {
  uint64_t device = 0, inode = 0, size_bytes = 0;
  int64_t modified_ns = 0, changed_ns = 0;  // since 1970

  // Of whatever stands at the path now. Errors: kIo.
  static Result<FileStamp> of(const std::string& path);
  bool operator==(const FileStamp&) const = default;
};

// Equally long pieces of a file, equally far apart.
struct FileRows {
  uint64_t offset = 0;  // of the first
  uint64_t count = 1;
  uint64_t row_bytes = 0;
  uint64_t stride = 0;  // from the beginning of one to that of the next
};

class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return stamp_.size_bytes; }
  const FileStamp& stamp() const { return stamp_; }  // when it was opened
  // Bytes that read() and read_rows() have delivered so far.
  uint64_t bytes_read() const { return bytes_read_.load(std::memory_order_relaxed); }

  // Copies [offset, offset + out.size()) into out. Errors: kInvalidData when the range leaves the
  // file, kIo when the file shrank or the device failed. Thread-safe.
  Status read(uint64_t offset, std::span<std::byte> out) const;
  // Copies rows one behind the other. REQUIRES: out has room for just them.
  Status read_rows(const FileRows& rows, std::span<std::byte> out) const;

  // Says that a range was read for the last time in a while: its pages, which reading mapped, stop
  // counting as this process's memory. Another read still works.
  void forget(uint64_t offset, uint64_t bytes) const;

 private:
  void ask_ahead(uint64_t offset, uint64_t bytes) const;

  MappedFile(std::string path, const std::byte* data, const FileStamp& stamp)
      : path_(std::move(path)), data_(data), stamp_(stamp) {}

  std::string path_;
  const std::byte* data_ = nullptr;  // [stamp_.size_bytes]
  FileStamp stamp_;
  mutable std::atomic<uint64_t> bytes_read_ = 0;
};

}  // namespace ultraspeed
