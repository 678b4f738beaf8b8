// The last row of a terminal, kept free of the text that scrolls above it (VT100 scroll region).
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "apps/terminal.h"

namespace ultraspeed::apps {

class StatusLine {
 public:
  // `describe` gives the terminal as it is now; without one, or with too few rows, nothing happens.
  StatusLine(std::function<Terminal()> describe, std::function<void(std::string_view)> write);
  ~StatusLine() { release(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  // Follows the window's size. The cursor stays where the text is.
  void show(std::string_view text);

  // Gives the row back, empty.
  void release();

 private:
  void reserve(uint32_t rows);

  std::function<Terminal()> describe_;
  std::function<void(std::string_view)> write_;
  uint32_t rows_ = 0;  // 0: nothing is reserved
};

}  // namespace ultraspeed::apps
