// SIGINT and the like as something that can be polled: a handler may do next to nothing, and with
// worker threads about, a signal need not interrupt the thread that waits.
#pragma once

#include <initializer_list>

#include "base/result.h"

namespace ultraspeed::apps {

// At most one at a time; it stays in charge until the process ends.
class CaughtSignals {
 public:
  // From now on these signals are only noted. Errors: kIo.
  static Result<CaughtSignals> catch_signals(std::initializer_list<int> numbers);

  // Becomes readable when a signal has come.
  int descriptor() const { return descriptor_; }

  // Whether one has come since the last call.
  bool take() const;

  int wait() const;  // until one has come, and takes it: its number

 private:
  explicit CaughtSignals(int descriptor) : descriptor_(descriptor) {}

  int descriptor_;
};

}  // namespace ultraspeed::apps
