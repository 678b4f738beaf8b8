#include "hub/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <filesystem>
#include <utility>

namespace ultraspeed::hub {

Result<FileLock> FileLock::take(const std::string& path, const std::function<void()>& on_wait) {
  const std::filesystem::path file(path);
  const OutputFolder folder(file.parent_path().string());
  US_TRY(folder.make_folder(""));
  US_ASSIGN(OutputFile opened, folder.extend(file.filename().string()));
  if (flock(opened.file_descriptor(), LOCK_EX | LOCK_NB) == 0) return FileLock(std::move(opened));
  if (errno == EWOULDBLOCK) {
    on_wait();
    while (flock(opened.file_descriptor(), LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  return FileLock(std::move(opened));
}

}  // namespace ultraspeed::hub
