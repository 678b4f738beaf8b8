#include "access/private_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace ultraspeed::access {
namespace {

tl::unexpected<Error> private_file_error(const std::string& path, const char* doing,
                                         std::string_view what) {
  return make_error(ErrorCode::kIo, "{}: cannot {} the {}: {}", path, doing, what,
                    std::strerror(errno));
}

}  // namespace

Status check_private(const std::string& path, std::string_view what) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return private_file_error(path, "look at", what);
  }
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorCode::kIo, "{}: no file; expected the {}", path, what);
  }
  if ((status.st_mode & 077) == 0) return {};
  return make_error(ErrorCode::kIo, "{}: others may read it (mode {:03o}); run chmod 600 on it",
                    path, status.st_mode & 0777);
}

Status create_private(const std::string& path, std::string_view what) {
  const int file = open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0 && errno != EEXIST) return private_file_error(path, "create", what);
  if (file < 0) return check_private(path, what);
  close(file);
  return {};
}

Result<LockedFile> LockedFile::open(const std::string& path, std::string_view what) {
  US_TRY(create_private(path, what));
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return private_file_error(path, "open", what);
  LockedFile file(descriptor);
  if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) return file;
  if (errno != EWOULDBLOCK) return private_file_error(path, "lock", what);
  return make_error(ErrorCode::kIo,
                    "{}: another server has the {}; stop it, or give this one its own in [access]",
                    path, what);
}

LockedFile::LockedFile(LockedFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

LockedFile::~LockedFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

}  // namespace ultraspeed::access
