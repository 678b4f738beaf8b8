// Splits a stretch of time into parts.
#pragma once

#include <chrono>

namespace ultraspeed::engine {

class LapClock {
 public:
  // Adds the seconds since the lap before, or since the clock was made, to *part.
  void lap(double* part) {
    const auto now = std::chrono::steady_clock::now();
    *part += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace ultraspeed::engine
