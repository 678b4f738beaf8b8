#include "train/output_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace ultraspeed::train {
namespace {

constexpr std::string_view kFresh = ".new";  // behind the name of a file that is not whole yet

std::string fresh_path(const std::string& path) {
  return fmt::format("{}{}", path, kFresh);
}

bool write_all(int file, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(file, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

}  // namespace

tl::unexpected<Error> cannot_write(const std::string& path) {
  return make_error(ErrorCode::kIo, "{}: cannot write: {}", path, std::strerror(errno));
}

Status write_file(const std::string& path, std::initializer_list<std::string_view> parts) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) return cannot_write(path);
  bool is_written = true;
  for (const std::string_view part : parts) is_written = is_written && write_all(file, part);
  const int reason = errno;
  if (close(file) == 0 && is_written) return {};
  if (!is_written) errno = reason;
  return cannot_write(path);
}

Status replace_file(const std::string& path, std::initializer_list<std::string_view> parts) {
  US_TRY(write_file(fresh_path(path), parts));
  if (std::rename(fresh_path(path).c_str(), path.c_str()) == 0) return {};
  return cannot_write(path);
}

Status make_folder(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (!error && std::filesystem::is_directory(directory, error)) return {};
  return make_error(ErrorCode::kIo, "{}: cannot make the folder: {}", directory,
                    error ? error.message() : std::strerror(ENOTDIR));
}

Status check_file(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (!folder.empty()) US_TRY(make_folder(folder));
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    errno = EISDIR;
    return cannot_write(path);
  }
  US_TRY(write_file(fresh_path(path), {}));
  std::filesystem::remove(fresh_path(path), error);
  return {};
}

Status check_folder(const std::string& directory) {
  US_TRY(make_folder(directory));
  return check_file(fmt::format("{}/config.json", directory));
}

// --- A folder ---

Result<FolderWriter> FolderWriter::create(const std::string& directory) {
  US_TRY(make_folder(directory));
  return FolderWriter(directory);
}

FolderWriter::~FolderWriter() {
  for (const std::string& name : names_) unlink(fresh_path(path(name)).c_str());
}

std::string FolderWriter::path(std::string_view name) const {
  return fmt::format("{}/{}", directory_, name);
}

Status FolderWriter::write(std::string_view name, std::string_view bytes) {
  names_.emplace_back(name);
  return write_file(fresh_path(path(name)), {bytes});
}

Status FolderWriter::finish() {
  for (const std::string& name : names_) {
    if (std::rename(fresh_path(path(name)).c_str(), path(name).c_str()) != 0) {
      return cannot_write(path(name));
    }
  }
  names_.clear();
  return {};
}

}  // namespace ultraspeed::train
