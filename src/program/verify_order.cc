// The ordering half of verify(): one simulated execution that carries vector clocks. Any race shows
// whichever legal order is simulated, because a conflicting pair must be ordered by clocks.
#include <algorithm>
#include <deque>
#include <map>
#include <vector>

#include "program/access.h"
#include "program/print.h"
#include "program/verify_internal.h"
#include "program/verify_memory.h"

namespace ultraspeed::program::internal {
namespace {

// What a counter, or a family of slot flags, knows when it is full.
struct Join {
  uint32_t expected = 0;
  uint32_t arrived = 0;
  uint32_t depth = 0;             // hops on the longest chain to here
  Clock clock;                    // empty until the first arrival
  std::vector<uint32_t> blocked;  // workers waiting
};

class OrderProof {
 public:
  explicit OrderProof(const Program& program)
      : program_(program),
        num_threads_(static_cast<uint32_t>(program.lists.size())),
        clocks_(num_threads_, Clock(num_threads_, 0)),
        depths_(num_threads_, 0),
        next_(num_threads_, 0),
        counters_(uint64_t{program.num_ranks} * program.num_counters),
        memory_(program) {}

  Result<VerifyReport> run() {
    count_expected();
    for (uint32_t thread = 0; thread < num_threads_; ++thread) runnable_.push_back(thread);
    while (!runnable_.empty()) {
      const uint32_t thread = runnable_.front();
      runnable_.pop_front();
      US_TRY(advance(thread));
    }
    US_TRY(check_finished());
    US_TRY(memory_.check_outputs());
    report_.critical_path_hops = *std::max_element(depths_.begin(), depths_.end());
    return report_;
  }

 private:
  Join& counter(uint32_t rank, uint32_t id) {
    return counters_[uint64_t{rank} * program_.num_counters + id];
  }
  Join& family(uint32_t rank, uint32_t first_flag) { return families_[{rank, first_flag}]; }

  template <class Function>
  void for_each_join(uint32_t rank, const Signal& signal, Function function) {
    if (signal.kind == SignalKind::kNone) return;
    if (signal.kind == SignalKind::kSlot) return function(family(rank, signal.id));
    if (signal.scope == SignalScope::kLocal) return function(counter(rank, signal.id));
    if (signal.scope == SignalScope::kOneRank) return function(counter(signal.rank, signal.id));
    for (uint32_t r = 0; r < program_.num_ranks; ++r) function(counter(r, signal.id));
  }

  void count_expected() {
    for (uint32_t thread = 0; thread < num_threads_; ++thread) {
      for (const Task& task : program_.lists[thread]) {
        for_each_join(thread / program_.num_workers, task.signal,
                      [](Join& join) { ++join.expected; });
      }
    }
  }

  // Runs a worker's tasks until one has to wait.
  Status advance(uint32_t thread) {
    const auto& list = program_.lists[thread];
    while (next_[thread] < list.size()) {
      const Task& task = list[next_[thread]];
      if (Join* missing = first_unmet(thread, task)) {
        missing->blocked.push_back(thread);
        return {};
      }
      US_TRY(execute(thread, task));
      ++next_[thread];
    }
    return {};
  }

  Join* join_of(uint32_t rank, const Wait& wait) {
    if (wait.kind == WaitKind::kNone) return nullptr;
    return wait.kind == WaitKind::kCounter ? &counter(rank, wait.id) : &family(rank, wait.id);
  }

  Join* first_unmet(uint32_t thread, const Task& task) {
    for (const Wait& wait : task.waits) {
      Join* join = join_of(thread / program_.num_workers, wait);
      if (join != nullptr && join->arrived < join->expected) return join;
    }
    return nullptr;
  }

  Status execute(uint32_t thread, const Task& task) {
    const uint32_t rank = thread / program_.num_workers;
    Clock& clock = clocks_[thread];
    const auto join_waits = [&](WaitKind kind) {
      for (const Wait& wait : task.waits) {
        if (wait.kind != kind) continue;
        const Join& join = *join_of(rank, wait);
        if (!join.clock.empty()) join_clocks(&clock, join.clock);
        depths_[thread] = std::max(depths_[thread], join.depth + 1);
        ++report_.num_waits;
      }
    };
    const TaskId id{thread, static_cast<uint32_t>(next_[thread])};
    task_accesses(program_, rank, task, &accesses_);
    join_waits(WaitKind::kCounter);
    US_TRY(memory_.check_reads(id, clock, accesses_, /*per_unit=*/false));
    join_waits(WaitKind::kSlot);
    US_TRY(memory_.check_reads(id, clock, accesses_, /*per_unit=*/true));
    // Before the task counts as done: it must not overwrite what it reads itself.
    US_TRY(memory_.apply_writes(id, clock, accesses_));
    const bool sets_flags = task.signal.kind == SignalKind::kSlot;
    clock[thread] = sets_flags ? units_done(id.index) : task_done(id.index);
    ++report_.num_tasks;
    signal(thread, task);
    clock[thread] = task_done(id.index);
    return {};
  }

  void signal(uint32_t thread, const Task& task) {
    const uint32_t rank = thread / program_.num_workers;
    if (task.signal.scope != SignalScope::kLocal && program_.num_ranks > 1) {
      ++report_.num_cross_rank_signals;
    }
    for_each_join(rank, task.signal, [&](Join& join) {
      if (join.clock.empty()) join.clock.assign(num_threads_, 0);
      join_clocks(&join.clock, clocks_[thread]);
      join.depth = std::max(join.depth, depths_[thread]);
      if (++join.arrived < join.expected) return;
      runnable_.insert(runnable_.end(), join.blocked.begin(), join.blocked.end());
      join.blocked.clear();
    });
  }

  Status check_finished() const {
    for (uint32_t thread = 0; thread < num_threads_; ++thread) {
      if (next_[thread] == program_.lists[thread].size()) continue;
      return make_error(ErrorCode::kInvalidData,
                        "program '{}': deadlock: {} can never start, its list is not a linear "
                        "extension of the dependencies",
                        program_.name,
                        task_location(program_, thread / program_.num_workers,
                                      thread % program_.num_workers, next_[thread]));
    }
    return {};
  }

  const Program& program_;
  uint32_t num_threads_;
  std::vector<Clock> clocks_;     // [thread]: tasks of each thread known to be done
  std::vector<uint32_t> depths_;  // [thread]
  std::vector<uint64_t> next_;    // [thread]
  std::vector<Join> counters_;    // [rank, counter]
  std::map<std::pair<uint32_t, uint32_t>, Join> families_;  // by rank, first flag
  MemoryProof memory_;
  std::deque<uint32_t> runnable_;
  std::vector<Access> accesses_;
  VerifyReport report_;
};

}  // namespace

Result<VerifyReport> verify_order(const Program& program) {
  return OrderProof(program).run();
}

}  // namespace ultraspeed::program::internal
