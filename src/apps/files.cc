#include "apps/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "apps/terminal.h"

namespace ultraspeed::apps {
namespace {

constexpr size_t kMaxFileBytes = 1'000'000'000;
constexpr int kMaxJsonDepth = 64;

Error system_error(ErrorCode code, const std::string& path, std::string_view action) {
  return Error{code,
               fmt::format("{}: cannot {}: {}", file_label(path), action, std::strerror(errno))};
}

// Pipes and devices have no size to ask for, so it reads to the end.
Result<std::string> read_to_end(int file_descriptor, const std::string& path) {
  std::string contents;
  size_t used = 0;
  while (true) {
    if (contents.size() - used < 65'536) contents.resize(contents.size() * 2 + 65'536);
    const ssize_t count = read(file_descriptor, contents.data() + used, contents.size() - used);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return tl::unexpected(system_error(ErrorCode::kIo, path, "read"));
    if (count == 0) break;
    used += static_cast<size_t>(count);
    if (used > kMaxFileBytes) {
      return make_error(ErrorCode::kInvalidArgument, "{}: more than {} bytes; expected a text file",
                        file_label(path), kMaxFileBytes);
    }
  }
  contents.resize(used);
  return contents;
}

}  // namespace

std::string file_label(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

Result<std::string> read_file(const std::string& path) {
  if (path == "-") return read_to_end(STDIN_FILENO, path);
  const int file_descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_descriptor < 0) {
    const ErrorCode code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
    return tl::unexpected(system_error(code, path, "open"));
  }
  auto contents = read_to_end(file_descriptor, path);
  close(file_descriptor);
  return contents;
}

Result<nlohmann::ordered_json> parse_json(std::string_view text, const std::string& label) {
  bool is_too_deep = false;
  const auto watch_depth = [&is_too_deep](int depth, nlohmann::ordered_json::parse_event_t,
                                          nlohmann::ordered_json&) {
    is_too_deep |= depth > kMaxJsonDepth;
    return !is_too_deep;
  };
  try {
    auto json = nlohmann::ordered_json::parse(text, watch_depth);
    if (!is_too_deep) return json;
  } catch (const nlohmann::json::exception& exception) {
    // what() is "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    std::string_view message = exception.what();
    const size_t bracket = message.find("] ");
    if (bracket != std::string_view::npos) message.remove_prefix(bracket + 2);
    return make_error(ErrorCode::kInvalidArgument, "{}: not valid JSON: {}", label, message);
  }
  return make_error(ErrorCode::kInvalidArgument, "{}: nested more than {} deep", label,
                    kMaxJsonDepth);
}

Result<nlohmann::ordered_json> read_json_file(const std::string& path) {
  US_ASSIGN(const std::string text, read_file(path));
  return parse_json(text, file_label(path));
}

Status check_writable(const std::optional<std::string>& file) {
  if (!file) return {};
  const std::string& path = *file;
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    errno = EISDIR;
  } else if (access(path.c_str(), W_OK) == 0) {
    return {};
  } else if (errno == ENOENT) {
    const int file_descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_descriptor >= 0) {
      close(file_descriptor);
      unlink(path.c_str());
      return {};
    }
    if (errno == EEXIST) return {};  // a link to where no file is yet
  }
  return tl::unexpected(system_error(ErrorCode::kIo, path, "create"));
}

Status write_file(const std::string& path, std::string_view contents) {
  const int file_descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_descriptor < 0) return tl::unexpected(system_error(ErrorCode::kIo, path, "create"));
  const Status status = write_all(file_descriptor, contents);
  if (close(file_descriptor) == 0 && status) return {};
  return tl::unexpected(system_error(ErrorCode::kIo, path, "write"));
}

Status write_json_file(const std::string& path, const nlohmann::ordered_json& json) {
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  return write_file(path, json.dump(1, ' ', false, replace) + "\n");
}

}  // namespace ultraspeed::apps
