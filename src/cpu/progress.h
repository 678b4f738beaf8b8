// Where every thread of a step is, for those that wait long: whether anybody still works, and who
// keeps the others waiting. A thread stores its place without more; the rest is read by waiters
// alone.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "program/program.h"

namespace ultraspeed::cpu {

class Progress {
 public:
  explicit Progress(size_t num_threads) : places_(num_threads) {}

  // Between steps.
  void begin_step() {
    for (Place& place : places_) place.task.store(0, std::memory_order_relaxed);
  }

  // By the thread itself, of which this is the first word.
  void begin_thread(uint32_t thread);
  // It has come to this task of its list; behind the last it is done.
  void reach(uint32_t thread, size_t task) {
    places_[thread].task.store(static_cast<uint32_t>(task), std::memory_order_relaxed);
  }
  // It has found once more that it has to wait; it waits no more.
  void keep_waiting(uint32_t thread) {
    places_[thread].num_waits.fetch_add(1, std::memory_order_relaxed);
  }
  void end_waiting(uint32_t thread) {
    places_[thread].num_waits.store(0, std::memory_order_relaxed);
  }

  // A look at all threads.
  struct Look {
    std::vector<uint32_t> tasks, num_waits;  // [thread]; empty before the first
  };
  // Takes another look. Whether since the one before a thread has come to another task, or may yet
  // do so by itself: it computes, or has not found since then that it has to wait.
  bool has_life(const program::Program& program, Look* last) const;

  struct Position {
    uint32_t thread = 0;
    size_t task = 0;
  };
  // Of the threads that are not done and wait for nobody, that at the earliest stage; nothing when
  // all wait for each other.
  std::optional<Position> first_at_work(const program::Program& program) const;

 private:
  struct alignas(64) Place {
    std::atomic<uint32_t> task = 0;
    std::atomic<uint32_t> num_waits = 0;  // 0: it waits for nobody
    std::atomic<pid_t> id = 0;
  };

  bool is_at_work(const program::Program& program, uint32_t thread) const;

  std::vector<Place> places_;  // [thread]
};

// How long a thread waits: while anybody may go on, but for no longer than `limit`; if nobody may,
// for `silence`.
class Patience {
 public:
  using Clock = std::chrono::steady_clock;

  Patience(const Progress& progress, const program::Program& program,
           std::chrono::milliseconds limit, std::chrono::milliseconds silence)
      : progress_(progress),
        program_(program),
        begin_(Clock::now()),
        limit_(limit),
        period_(silence / kPeriods),
        next_look_(begin_ + period_) {}

  bool is_over();
  uint32_t waited_ms() const;

 private:
  // The first look of a wait sees no change yet; then two without life make a fault.
  static constexpr int kPeriods = 3;

  const Progress& progress_;
  const program::Program& program_;
  const Clock::time_point begin_;
  const Clock::duration limit_, period_;
  Clock::time_point next_look_;
  Progress::Look last_look_;
  int num_lifeless_ = 0;
};

// Who waited for what, in vain.
struct Fault {
  Progress::Position waiter;
  program::Wait wait;
  uint32_t have = 0, waited_ms = 0;
  std::optional<Progress::Position> culprit;

  // kInternal, with ranks, tasks and the counter.
  Status error(const program::Program& program) const;
};

}  // namespace ultraspeed::cpu
