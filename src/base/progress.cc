#include "base/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/check.h"

namespace ultraspeed {
namespace {

constexpr double kRedrawInterval_s = 0.1;
constexpr double kLineInterval_s = 3;  // no plain lines for transfers shorter than this
constexpr uint32_t kMaxBarColumns = 30;
constexpr std::string_view kWipeLine = "\r\033[K";
constexpr std::string_view kGreen = "\033[32m";
constexpr std::string_view kPlain = "\033[0m";

double system_seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

std::string format_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  // 999.5 would print as 1e+03.
  while (bytes >= 999.5 && unit + 1 < std::size(kUnits)) {
    bytes /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f} {}", bytes, decimals, kUnits[unit]);
}

std::string format_duration(double seconds) {
  constexpr double kLongest = 1e9;  // beyond it, and for NaN, nobody waits
  if (!(seconds < kLongest)) return "a long time";
  const auto whole = static_cast<uint64_t>(std::ceil(std::max(seconds, 0.0)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(ProgressOptions options) : options_(std::move(options)) {
  US_CHECK(options_.write != nullptr);
  if (!options_.now_s) options_.now_s = system_seconds;
  if (!options_.format_amount) options_.format_amount = format_bytes;
  if (!options_.note) options_.note = [] { return std::string(); };
  begin_s_ = options_.now_s();
}

Progress::~Progress() {
  if (is_bar_visible_) options_.write(kWipeLine);
}

void Progress::update(uint64_t bytes_done, uint64_t bytes_total) {
  bytes_done_ = std::min(bytes_done, bytes_total);
  bytes_total_ = bytes_total;
  if (bytes_total == 0) return;
  const double elapsed_s = options_.now_s() - begin_s_;
  if (options_.is_terminal) {
    draw_bar(elapsed_s);
  } else {
    print_quarter(elapsed_s);
  }
}

// "23.1 MB of 46.2 MB, 812 MB/s, 3 s left"
std::string Progress::describe(double elapsed_s) const {
  const auto done = static_cast<double>(bytes_done_);
  const auto total = static_cast<double>(bytes_total_);
  std::string text =
      fmt::format("{} of {}", options_.format_amount(done), options_.format_amount(total));
  if (elapsed_s > 0 && bytes_done_ > 0) {
    const double rate = done / elapsed_s;
    text += fmt::format(", {}/s, {} left", options_.format_amount(rate),
                        format_duration((total - done) / rate));
  }
  return text + options_.note();
}

void Progress::draw_bar(double elapsed_s) {
  if (is_bar_visible_ && elapsed_s - last_s_ < kRedrawInterval_s) return;
  last_s_ = elapsed_s;
  is_bar_visible_ = true;
  const double fraction = static_cast<double>(bytes_done_) / static_cast<double>(bytes_total_);
  const std::string text = describe(elapsed_s);
  // "LABEL [bar] 100%  text" must stay on one line.
  const size_t taken = options_.label.size() + text.size() + 10;
  const size_t room = options_.terminal_columns > taken ? options_.terminal_columns - taken : 0;
  std::string bar;
  if (room >= 5) {
    const size_t columns = std::min<size_t>(room, kMaxBarColumns);
    const auto filled = static_cast<size_t>(fraction * static_cast<double>(columns));
    bar = fmt::format("[{}{:#<{}}{}{:.<{}}] ", options_.use_color ? kGreen : "", "", filled,
                      options_.use_color ? kPlain : "", "", columns - filled);
  }
  options_.write(fmt::format("{}{} {}{:3.0f}%  {}", kWipeLine, options_.label, bar,
                             std::floor(fraction * 100), text));
}

void Progress::print_quarter(double elapsed_s) {
  const auto quarters = static_cast<uint32_t>(4.0 * static_cast<double>(bytes_done_) /
                                              static_cast<double>(bytes_total_));
  if (quarters <= quarters_printed_ || quarters >= 4) return;
  if (elapsed_s - last_s_ < kLineInterval_s) return;
  last_s_ = elapsed_s;
  quarters_printed_ = quarters;
  options_.write(fmt::format("{}: {}\n", options_.label, describe(elapsed_s)));
}

void Progress::finish() {
  const double elapsed_s = options_.now_s() - begin_s_;
  const auto total = static_cast<double>(bytes_total_);
  const std::string rate = elapsed_s > 0
                               ? fmt::format(" ({}/s)", options_.format_amount(total / elapsed_s))
                               : std::string();
  options_.write(fmt::format("{}{}: {} in {:.2f} s{}{}\n", is_bar_visible_ ? kWipeLine : "",
                             options_.label, options_.format_amount(total), elapsed_s, rate,
                             options_.note()));
  is_bar_visible_ = false;
}

}  // namespace ultraspeed
