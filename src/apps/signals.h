// SIGINT and the like as something that can be polled: a handler may do next to nothing, and with
// worker threads about, a signal need not interrupt the thread that waits.
#pragma once

#include <initializer_list>

#include "base/result.h"

namespace ultraspeed::apps {

// A write that a limit on the size of files stops (ulimit -f) is to fail, as on a full disk, and
// not to end the process. For the whole program; before it writes.
void ignore_file_size_signal();

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
