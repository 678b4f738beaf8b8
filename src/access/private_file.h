// Files for their owner alone (0600): what the service keeps says who its customers are.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace ultraspeed::access {

// Of the file at `path`, where there is one. `what` names it in errors: "delivery journal".
// Errors: kIo (no regular file, others may read it).
Status check_private(const std::string& path, std::string_view what);

// Creates it, empty, where there is none: others would, for whoever the umask lets in. Errors: kIo
// (no such folder), those of check_private().
Status create_private(const std::string& path, std::string_view what);

// A private file that one process has: until the object's end, or the process's, whatever ends it.
class LockedFile {
 public:
  // Creates it where there is none. Errors: kIo (another one has it), those of create_private().
  static Result<LockedFile> open(const std::string& path, std::string_view what);
  LockedFile(LockedFile&& other) noexcept;
  LockedFile& operator=(LockedFile&&) = delete;
  ~LockedFile();

  int descriptor() const { return descriptor_; }

 private:
  explicit LockedFile(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;  // -1: moved from
};

}  // namespace ultraspeed::access
