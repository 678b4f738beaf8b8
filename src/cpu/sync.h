// Counters and flags of one program on every rank, and the only place where CPU threads make each
// other's stores visible. Nothing is reset between steps: a counter gains the same amount in every
// epoch, a flag holds the epoch of its last use.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "program/program.h"

namespace ultraspeed::cpu {

class SyncState {
 public:
  explicit SyncState(const program::Program& program)
      : num_ranks_(program.num_ranks),
        num_counters_(program.num_counters),
        num_flags_(program.num_flags),
        counters_(uint64_t{program.num_ranks} * program.num_counters),
        flags_(uint64_t{program.num_ranks} * program.num_flags) {}

  // Between steps only, before the threads start on the step.
  void begin_epoch() { ++epoch_; }

  // Increments of this epoch that a counter wait has seen; it is met at wait.need.
  // Acquire: pairs with the release in signal(); what the producers wrote is visible when met.
  uint32_t arrived(uint32_t rank, const program::Wait& wait) const {
    const uint32_t before = wait.need * (epoch_ - 1);
    return counters_[rank * num_counters_ + wait.id].load(std::memory_order_acquire) - before;
  }

  // Whether all flags of a slot are set. Acquire: pairs with signal_unit().
  bool slot_ready(uint32_t rank, const program::Wait& wait, uint32_t slot) const {
    const uint64_t first = rank * num_flags_ + wait.id + uint64_t{slot} * wait.need;
    for (uint64_t i = first; i < first + wait.need; ++i) {
      if (flags_[i].load(std::memory_order_acquire) != epoch_) return false;
    }
    return true;
  }

  // Release: publishes the task's stores to whoever waits for the counter.
  void signal(uint32_t rank, const program::Signal& signal) {
    if (signal.kind != program::SignalKind::kCounter) return;
    const bool all = signal.scope == program::SignalScope::kAllRanks;
    const uint32_t target = signal.scope == program::SignalScope::kLocal ? rank : signal.rank;
    for (uint64_t r = all ? 0 : target; r < (all ? num_ranks_ : target + 1); ++r) {
      counters_[r * num_counters_ + signal.id].fetch_add(1, std::memory_order_release);
    }
  }

  // Release: publishes one unit of a loop to whoever waits for its slot.
  void signal_unit(uint32_t rank, const program::Signal& signal, uint32_t unit) {
    if (signal.kind != program::SignalKind::kSlot) return;
    flags_[rank * num_flags_ + signal.id + unit].store(epoch_, std::memory_order_release);
  }

 private:
  uint64_t num_ranks_, num_counters_, num_flags_;
  uint32_t epoch_ = 0;
  std::vector<std::atomic<uint32_t>> counters_;  // [rank, counter]
  std::vector<std::atomic<uint32_t>> flags_;     // [rank, flag]
};

}  // namespace ultraspeed::cpu
