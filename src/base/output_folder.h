// The folder that a checkpoint or a cache is written into. All writing goes through it, so that
// tests can fill the disk or damage what is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace ultraspeed {

// An open file descriptor with its path.
class OutputFile {
 public:
  OutputFile(int file_descriptor, std::string path)
      : file_descriptor_(file_descriptor), path_(std::move(path)) {}
  OutputFile(OutputFile&& other) noexcept
      : file_descriptor_(std::exchange(other.file_descriptor_, -1)),
        path_(std::move(other.path_)) {}
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  int file_descriptor() const { return file_descriptor_; }
  const std::string& path() const { return path_; }

 private:
  int file_descriptor_;
  std::string path_;
};

// Errors are kIo with the path and the system's reason.
class OutputFolder {
 public:
  explicit OutputFolder(std::string path) : path_(std::move(path)) {}
  virtual ~OutputFolder() = default;

  const std::string& path() const { return path_; }
  std::string path_of(std::string_view name) const;

  // A new file of this size, in place of what is there.
  Result<OutputFile> create(std::string_view name, uint64_t bytes) const;
  // An old file as it is, or a new one, to be read and written.
  Result<OutputFile> extend(std::string_view name) const;
  // All bytes, at this place. Thread-safe for places of their own.
  virtual Status write_at(const OutputFile& file, uint64_t offset,
                          std::span<const std::byte> bytes) const;
  // Waits until the file is on the disk, and drops it from the memory that caches it.
  Status sync(const OutputFile& file) const;
  // Replaces `to` by `from` for good: a crash leaves either.
  Status rename(std::string_view from, std::string_view to) const;
  // A whole file at once: it is either there or not.
  Status write_text(std::string_view name, std::string_view text) const;
  Status make_folder(std::string_view name) const;
  // What is not there counts as removed.
  Status remove(std::string_view name) const;

  // Errors if fewer bytes are free.
  Status check_space(uint64_t bytes) const;

 private:
  std::string path_;
};

}  // namespace ultraspeed
