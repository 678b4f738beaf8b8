#include "support/reference_folder.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

namespace ultraspeed::test {
namespace {

namespace fs = std::filesystem;

// Holds a lock file for as long as it lives, against other test processes.
class ProcessLock {
 public:
  explicit ProcessLock(const std::string& path)
      : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    if (fd_ >= 0) flock(fd_, LOCK_EX);
  }
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;
  ~ProcessLock() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  int fd_;
};

// Runs `cmake -E tar xf ARCHIVE` in a folder: CMake brings its own tar and xz.
Status unpack(const std::string& archive, const std::string& directory) {
  std::vector<std::string> words = {US_CMAKE_COMMAND,     "-E", "chdir", directory,
                                    US_CMAKE_COMMAND,     "-E", "tar",   "xf",
                                    fs::absolute(archive)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ);
  if (error != 0) {
    return make_error(ErrorCode::kIo, "cannot run {}: {}", arguments[0], std::strerror(error));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return make_error(ErrorCode::kInvalidData, "{}: cannot be unpacked; expected a tar.xz archive",
                    archive);
}

}  // namespace

Result<std::string> reference_folder(const std::string& name) {
  const std::string archive = std::string(US_TEST_DATA_ARCHIVES) + "/" + name + ".tar.xz";
  std::error_code error;
  const auto archive_time = fs::last_write_time(archive, error);
  if (error) {
    return make_error(ErrorCode::kNotFound, "{}: missing test fixture; expected it in git",
                      archive);
  }
  const std::string root = US_TEST_DATA_DIRECTORY;
  fs::create_directories(root, error);
  const ProcessLock lock(root + "/" + name + ".lock");
  const std::string directory = root + "/" + name;
  const std::string stamp = root + "/" + name + ".unpacked";
  if (fs::exists(directory, error) && fs::exists(stamp, error) &&
      fs::last_write_time(stamp, error) >= archive_time) {
    return directory;
  }
  fs::remove_all(directory, error);
  US_TRY(unpack(archive, root));
  if (!fs::exists(directory, error)) {
    return make_error(ErrorCode::kInvalidData, "{}: holds no folder {}", archive, name);
  }
  std::ofstream(stamp) << "unpacked\n";
  return directory;
}

}  // namespace ultraspeed::test
