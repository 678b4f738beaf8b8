#include "apps/status_line.h"

#include <fmt/format.h>

#include <utility>

namespace ultraspeed::apps {
namespace {

constexpr uint32_t kMinRows = 4;
constexpr std::string_view kSaveCursor = "\0337";
constexpr std::string_view kRestoreCursor = "\0338";
constexpr std::string_view kClearRow = "\033[2K";

}  // namespace

StatusLine::StatusLine(std::function<Terminal()> describe,
                       std::function<void(std::string_view)> write)
    : describe_(std::move(describe)), write_(std::move(write)) {}

// The line break makes room when the cursor is on the last row; setting the region moves the cursor
// to the top, so it is saved around that.
void StatusLine::reserve(uint32_t rows) {
  rows_ = rows;
  write_(fmt::format("\n{}\033[1;{}r{}\033[1A", kSaveCursor, rows - 1, kRestoreCursor));
}

void StatusLine::show(std::string_view text) {
  const Terminal terminal = describe_();
  if (!terminal.has_escapes || terminal.rows < kMinRows) return release();
  if (terminal.rows != rows_) {
    release();
    reserve(terminal.rows);
  }
  write_(fmt::format("{}\033[{};1H{}{}{}", kSaveCursor, rows_, kClearRow,
                     text.substr(0, terminal.columns - 1), kRestoreCursor));
}

void StatusLine::release() {
  if (rows_ == 0) return;
  write_(fmt::format("{}\033[r\033[{};1H{}{}", kSaveCursor, rows_, kClearRow, kRestoreCursor));
  rows_ = 0;
}

}  // namespace ultraspeed::apps
