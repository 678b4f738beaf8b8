#include "apps/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

namespace ultraspeed::apps {

Terminal describe_terminal(int file_descriptor) {
  Terminal terminal;
  terminal.is_terminal = isatty(file_descriptor) == 1;
  if (!terminal.is_terminal) return terminal;
  const char* no_color = std::getenv("NO_COLOR");
  const char* type = std::getenv("TERM");
  terminal.has_escapes = type != nullptr && std::string_view(type) != "dumb";
  terminal.use_color = terminal.has_escapes && (no_color == nullptr || *no_color == '\0');
  winsize size = {};
  if (ioctl(file_descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    terminal.columns = size.ws_col;
    terminal.rows = size.ws_row;
  }
  return terminal;
}

Status write_all(int file_descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(file_descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      return make_error(ErrorCode::kIo, "cannot write the output: {}", std::strerror(errno));
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

void write_to_stderr(std::string_view text) {
  static_cast<void>(write_all(STDERR_FILENO, text));
}

int report_error(const Error& error) {
  write_to_stderr(fmt::format("ultraspeed: {}\n", error.message));
  return 1;
}

PassingLine::PassingLine() : is_terminal_(describe_terminal(STDERR_FILENO).has_escapes) {}

void PassingLine::show(std::string_view text) const {
  if (is_terminal_) write_to_stderr(fmt::format("\r\033[K{}", text));
}

void warn(std::string_view sentence) {
  if (!sentence.empty()) write_to_stderr(fmt::format("ultraspeed: {}\n", sentence));
}

Status print_summary(std::string_view answer, std::string_view summary) {
  struct stat output = {};
  struct stat error = {};
  const bool is_mixed = fstat(STDOUT_FILENO, &output) == 0 && fstat(STDERR_FILENO, &error) == 0 &&
                        output.st_dev == error.st_dev && output.st_ino == error.st_ino;
  const bool needs_break = !answer.ends_with('\n');
  if (needs_break && !is_mixed && isatty(STDOUT_FILENO) == 1) {
    US_TRY(write_all(STDOUT_FILENO, "\n"));
  }
  write_to_stderr(fmt::format("{}{}\n", needs_break && is_mixed ? "\n" : "", summary));
  return {};
}

ProgressOptions loading_progress(std::string_view label) {
  const Terminal terminal = describe_terminal(STDERR_FILENO);
  ProgressOptions options;
  options.label = label;
  options.is_terminal = terminal.has_escapes;
  options.use_color = terminal.use_color;
  options.terminal_columns = terminal.columns;
  options.write = write_to_stderr;
  return options;
}

}  // namespace ultraspeed::apps
