// Where every thread of a step is, for those that wait long: whether anybody still works, and who
// keeps the others waiting. A thread stores its place without more; the rest is read by waiters
// alone.
#pragma once

#include <pthread.h>

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

  // Between steps. The handle of a thread has to be set before it starts on one.
  void set_handle(uint32_t thread, pthread_t handle) { places_[thread].handle = handle; }
  void begin_step() {
    for (Place& place : places_) place.task.store(0, std::memory_order_relaxed);
  }

  // By the thread itself: it has come to this task of its list; behind the last it is done.
  void reach(uint32_t thread, size_t task) {
    places_[thread].task.store(static_cast<uint32_t>(task), std::memory_order_relaxed);
  }
  void set_waiting(uint32_t thread, bool is_waiting) {
    places_[thread].is_waiting.store(is_waiting, std::memory_order_relaxed);
  }

  // Another number when a thread has come to another task, or one that waits for nobody has used
  // its processor.
  uint64_t sign_of_life(const program::Program& program) const;

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
    std::atomic<bool> is_waiting = false;
    pthread_t handle = {};
  };

  bool is_at_work(const program::Program& program, uint32_t thread) const;

  std::vector<Place> places_;  // [thread]
};

// How long a thread waits: while anybody works, but for no longer than `limit`; with no sign of
// life, for `silence`.
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
  // The first of the looks that are alike may come a whole period before or after the last sign.
  // And two that follow each other tell a process that was stopped from threads that stand still.
  static constexpr int kPeriods = 3;

  const Progress& progress_;
  const program::Program& program_;
  const Clock::time_point begin_;
  const Clock::duration limit_, period_;
  Clock::time_point next_look_;
  uint64_t last_sign_ = 0;
  int num_alike_ = 0;
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
