// A read-only memory-mapped file whose every read is guarded: a file that another process truncates
// while it is mapped gives an Error, never a SIGBUS. The mapping's address is not handed out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace ultraspeed {

class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }

  // Copies [offset, offset + out.size()) into out. Errors: kInvalidData when the range leaves the
  // file, kIo when the file shrank or the device failed. Thread-safe.
  Status read(uint64_t offset, std::span<std::byte> out) const;

  // Says that a range was read for the last time in a while: its pages, which reading mapped, stop
  // counting as this process's memory. Another read still works.
  void forget(uint64_t offset, uint64_t bytes) const;

 private:
  MappedFile(std::string path, const std::byte* data, uint64_t size_bytes)
      : path_(std::move(path)), data_(data), size_bytes_(size_bytes) {}

  std::string path_;
  const std::byte* data_ = nullptr;  // [size_bytes_]
  uint64_t size_bytes_ = 0;
};

}  // namespace ultraspeed
