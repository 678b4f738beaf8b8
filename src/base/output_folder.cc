#include "base/output_folder.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/progress.h"

namespace ultraspeed {
namespace {

tl::unexpected<Error> system_error(const std::string& path, std::string_view action) {
  return make_error(ErrorCode::kIo, "{}: cannot {}: {}", path, action, std::strerror(errno));
}

// Makes what was created, renamed or removed in a folder last.
Status sync_folder(const std::string& path) {
  const int file_descriptor = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file_descriptor < 0) return system_error(path, "open");
  const OutputFile folder(file_descriptor, path);
  if (fsync(file_descriptor) != 0) return system_error(path, "write");
  return {};
}

}  // namespace

OutputFile::~OutputFile() {
  if (file_descriptor_ >= 0) close(file_descriptor_);
}

std::string OutputFolder::path_of(std::string_view name) const {
  return name.empty() ? path_ : path_ + "/" + std::string(name);
}

Result<OutputFile> OutputFolder::create(std::string_view name, uint64_t bytes) const {
  const std::string path = path_of(name);
  const int file_descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_descriptor < 0) return system_error(path, "create");
  OutputFile file(file_descriptor, path);
  if (ftruncate(file_descriptor, static_cast<off_t>(bytes)) != 0) return system_error(path, "size");
  return file;
}

Result<OutputFile> OutputFolder::extend(std::string_view name) const {
  const std::string path = path_of(name);
  const int file_descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_descriptor < 0) return system_error(path, "open");
  return OutputFile(file_descriptor, path);
}

Status OutputFolder::write_at(const OutputFile& file, uint64_t offset,
                              std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count =
        pwrite(file.file_descriptor(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error(file.path(), "write");
    offset += static_cast<uint64_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Status OutputFolder::sync(const OutputFile& file) const {
  if (fsync(file.file_descriptor()) != 0) return system_error(file.path(), "write");
  // Advice only: where it is not taken, what is read again comes from memory.
  posix_fadvise(file.file_descriptor(), 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

Status OutputFolder::rename(std::string_view from, std::string_view to) const {
  const std::string target = path_of(to);
  if (std::rename(path_of(from).c_str(), target.c_str()) != 0) {
    return system_error(path_of(from), fmt::format("rename to {}", target));
  }
  return sync_folder(std::filesystem::path(target).parent_path());
}

Status OutputFolder::write_text(std::string_view name, std::string_view text) const {
  const std::string partial = std::string(name) + ".partial";
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  {
    US_ASSIGN(const OutputFile file, create(partial, text.size()));
    US_TRY(write_at(file, 0, bytes));
    US_TRY(sync(file));
  }
  return rename(partial, name);
}

Status OutputFolder::make_folder(std::string_view name) const {
  const std::string path = path_of(name);
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return {};
  return make_error(ErrorCode::kIo, "{}: cannot create the folder: {}", path, error.message());
}

Status OutputFolder::remove(std::string_view name) const {
  const std::string path = path_of(name);
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (!error) return {};
  return make_error(ErrorCode::kIo, "{}: cannot remove: {}", path, error.message());
}

Status OutputFolder::check_space(uint64_t bytes) const {
  struct statvfs info = {};
  if (statvfs(path_.c_str(), &info) != 0) return system_error(path_, "ask for free space");
  const uint64_t free_bytes = uint64_t{info.f_bavail} * info.f_frsize;
  if (free_bytes >= bytes) return {};
  return make_error(ErrorCode::kIo, "{}: {} are free; expected {} for what is to be written", path_,
                    format_bytes(static_cast<double>(free_bytes)),
                    format_bytes(static_cast<double>(bytes)));
}

}  // namespace ultraspeed
