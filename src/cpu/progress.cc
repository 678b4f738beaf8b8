#include "cpu/progress.h"

#include <unistd.h>

#include <fstream>

#include "program/print.h"

namespace ultraspeed::cpu {
namespace {

// Whether a thread sleeps, or has ended: on a crowded machine others do not run either, but would.
bool stands_still(pid_t thread) {
  if (thread == 0) return false;  // it has yet to start
  std::ifstream file(fmt::format("/proc/self/task/{}/stat", thread));
  std::string stat;
  std::getline(file, stat);  // "12 (name) S ..."
  const size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) return access("/proc/self/task", F_OK) == 0;
  return stat[name_end + 2] == 'S';
}

std::string location(const program::Program& program, const Progress::Position& at) {
  return program::task_location(program, at.thread / program.num_workers,
                                at.thread % program.num_workers, at.task);
}

}  // namespace

void Progress::begin_thread(uint32_t thread) {
  places_[thread].id.store(gettid(), std::memory_order_relaxed);
}

bool Progress::is_at_work(const program::Program& program, uint32_t thread) const {
  const Place& place = places_[thread];
  return place.task.load(std::memory_order_relaxed) < program.lists[thread].size() &&
         place.num_waits.load(std::memory_order_relaxed) == 0;
}

bool Progress::has_life(const program::Program& program, Look* last) const {
  Look look;
  bool has_life = last->tasks.empty();
  for (uint32_t thread = 0; thread < places_.size(); ++thread) {
    const Place& place = places_[thread];
    look.tasks.push_back(place.task.load(std::memory_order_relaxed));
    look.num_waits.push_back(place.num_waits.load(std::memory_order_relaxed));
    if (has_life || look.tasks[thread] == program.lists[thread].size()) continue;
    has_life =
        look.tasks[thread] != last->tasks[thread] ||
        (look.num_waits[thread] == 0 ? !stands_still(place.id.load(std::memory_order_relaxed))
                                     : look.num_waits[thread] == last->num_waits[thread]);
  }
  *last = std::move(look);
  return has_life;
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
  num_lifeless_ = progress_.has_life(program_, &last_look_) ? 0 : num_lifeless_ + 1;
  return num_lifeless_ + 1 >= kPeriods;
}

uint32_t Patience::waited_ms() const {
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin_);
  return static_cast<uint32_t>(waited.count());
}

Status Fault::error(const program::Program& program) const {
  const bool is_counter = wait.kind == program::WaitKind::kCounter;
  const std::string why = culprit ? fmt::format("{} does not go on", location(program, *culprit))
                                  : "all wait for each other";
  return make_error(ErrorCode::kInternal,
                    "program '{}' stuck: {} waited {} ms for {} {}: needs {}, has {}; {}",
                    program.name, location(program, waiter), waited_ms,
                    is_counter ? "counter" : "slot flags", wait.id, wait.need, have, why);
}

}  // namespace ultraspeed::cpu
