#include "cpu/progress.h"

#include <ctime>

#include "program/print.h"

namespace ultraspeed::cpu {
namespace {

// Of a thread; 0 if it has ended.
uint64_t processor_ns(pthread_t thread) {
  clockid_t clock = 0;
  timespec time = {};
  if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

std::string location(const program::Program& program, const Progress::Position& at) {
  return program::task_location(program, at.thread / program.num_workers,
                                at.thread % program.num_workers, at.task);
}

}  // namespace

bool Progress::is_at_work(const program::Program& program, uint32_t thread) const {
  const Place& place = places_[thread];
  return place.task.load(std::memory_order_relaxed) < program.lists[thread].size() &&
         !place.is_waiting.load(std::memory_order_relaxed);
}

uint64_t Progress::sign_of_life(const program::Program& program) const {
  uint64_t sign = 0;
  for (uint32_t thread = 0; thread < places_.size(); ++thread) {
    sign += places_[thread].task.load(std::memory_order_relaxed);
    if (is_at_work(program, thread)) sign += processor_ns(places_[thread].handle);
  }
  return sign;
}

std::optional<Progress::Position> Progress::first_at_work(const program::Program& program) const {
  std::optional<Position> first;
  uint32_t first_stage = 0;
  for (uint32_t thread = 0; thread < places_.size(); ++thread) {
    if (!is_at_work(program, thread)) continue;
    const size_t task = places_[thread].task.load(std::memory_order_relaxed);
    const uint32_t stage = program.lists[thread][task].stage;
    if (first && first_stage <= stage) continue;
    first = Position{thread, task};
    first_stage = stage;
  }
  return first;
}

bool Patience::is_over() {
  const Clock::time_point now = Clock::now();
  if (now - begin_ >= limit_) return true;
  if (now < next_look_) return false;
  next_look_ = now + period_;
  const uint64_t sign = progress_.sign_of_life(program_);
  num_alike_ = sign == last_sign_ ? num_alike_ + 1 : 0;
  last_sign_ = sign;
  return num_alike_ + 1 >= kPeriods;
}

uint32_t Patience::waited_ms() const {
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin_);
  return static_cast<uint32_t>(waited.count());
}

Status Fault::error(const program::Program& program) const {
  const bool is_counter = wait.kind == program::WaitKind::kCounter;
  const std::string why =
      culprit ? location(program, *culprit) + " does not go on" : "all wait for each other";
  return make_error(ErrorCode::kInternal,
                    "program '{}' stuck: {} waited {} ms for {} {}: needs {}, has {}; {}",
                    program.name, location(program, waiter), waited_ms,
                    is_counter ? "counter" : "slot flags", wait.id, wait.need, have, why);
}

}  // namespace ultraspeed::cpu
