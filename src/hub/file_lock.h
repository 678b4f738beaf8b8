// A lock on a file that its owner's end, however it comes, sets free (flock): the one that Hugging
// Face's tools take, too.
#pragma once

#include <functional>
#include <string>

#include "base/output_folder.h"
#include "base/result.h"

namespace ultraspeed::hub {

class FileLock {
 public:
  // Makes the file and its folder where they are missing. `on_wait` is called once if another
  // process has the lock, before waiting for it. A file system without locks is as one without
  // others: two downloads of a blob write the same bytes. Errors: kIo for a file that cannot be
  // made.
  static Result<FileLock> take(const std::string& path, const std::function<void()>& on_wait);

 private:
  explicit FileLock(OutputFile file) : file_(std::move(file)) {}

  OutputFile file_;  // closing it gives the lock back
};

}  // namespace ultraspeed::hub
