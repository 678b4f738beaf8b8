// The progress of a long transfer for a person: a bar with rate and estimated time on a terminal, a
// few plain lines elsewhere, and one summary line at the end. Counts bytes unless the caller says
// what. Knows no terminal itself: the caller says what the output is and how to write to it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace ultraspeed {

struct ProgressOptions {
  std::string label;         // "Loading weights"
  bool is_terminal = false;  // true: one line redrawn in place
  bool use_color = false;    // terminals only
  uint32_t terminal_columns = 80;
  std::function<void(std::string_view)> write;
  std::function<double()> now_s;                     // a monotonic clock; empty: the system's
  std::function<std::string(double)> format_amount;  // of what is counted; empty: format_bytes()
  std::function<std::string()> note;                 // ends every line; may be empty
};

class Progress {
 public:
  // REQUIRES: options.write is set.
  explicit Progress(ProgressOptions options);
  // Without finish() the bar is wiped off the terminal, so that an error starts on a clean line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Call as often as you like: a bar is redrawn at most ten times a second, and lines come at a
  // quarter, a half and three quarters, if the transfer is slow enough to wonder.
  void update(uint64_t bytes_done, uint64_t bytes_total);

  // The last call; the summary gives size, time and rate.
  void finish();

 private:
  std::string describe(double elapsed_s) const;
  void draw_bar(double elapsed_s);
  void print_quarter(double elapsed_s);

  ProgressOptions options_;
  double begin_s_;
  double last_s_ = 0;  // of the last output, since begin_s_
  uint64_t bytes_done_ = 0;
  uint64_t bytes_total_ = 0;
  bool is_bar_visible_ = false;
  uint32_t quarters_printed_ = 0;
};

// "512 B", "46.2 MB", "1.03 TB": decimal units, three digits.
std::string format_bytes(double bytes);

// "3 s", "2 min 5 s", "1 h 40 min".
std::string format_duration(double seconds);

}  // namespace ultraspeed
