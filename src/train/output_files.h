// The files that this module writes.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::train {

// "PATH: cannot write: No space left on device", by errno.
tl::unexpected<Error> cannot_write(const std::string& path);

// The parts one behind the other, in place of what is there.
Status write_file(const std::string& path, std::initializer_list<std::string_view> parts);
// The same at once: a process that dies meanwhile leaves the old file.
Status replace_file(const std::string& path, std::initializer_list<std::string_view> parts);

// Makes a folder, and those above it, if there is none.
Status make_folder(const std::string& directory);

// Whether a long run will be able to write at its end. Folders are made; no file is changed.
Status check_file(const std::string& path);
Status check_folder(const std::string& directory);

// Files of a folder, which is made: each is written beside its place, and takes it when all of them
// are whole. What was there stays until then, and for good if one cannot be written.
class FolderWriter {
 public:
  static Result<FolderWriter> create(const std::string& directory);
  FolderWriter(FolderWriter&&) = default;
  FolderWriter& operator=(FolderWriter&&) = delete;
  ~FolderWriter();  // removes what has not taken its place

  std::string path(std::string_view name) const;
  Status write(std::string_view name, std::string_view bytes);
  Status finish();

 private:
  explicit FolderWriter(std::string directory) : directory_(std::move(directory)) {}

  std::string directory_;
  std::vector<std::string> names_;  // that were written
};

}  // namespace ultraspeed::train
