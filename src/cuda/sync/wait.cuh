// Waits of a task and its signals (program/task.h), by a whole CTA. The twin of cpu/sync.h: nothing
// is reset between steps.
#pragma once

#include <cstdint>

#include "cuda/ptx/counter.cuh"
#include "cuda/ptx/timer.cuh"
#include "program/task.h"

namespace ultraspeed::cuda {

// A limit on how long a thread waits, and a word that ends all waits. Most waits are short: the
// clock is asked first after some polls, and then now and then.
class Deadline {
 public:
  __device__ Deadline(uint64_t length_ns, const uint32_t* aborted)
      : length_ns_(length_ns), aborted_(aborted) {}

  // Whether a wait that has not been met goes on.
  __device__ bool goes_on() {
    constexpr uint32_t kPolls = 64;
    if (++polls_ % kPolls != 0) return true;
    const uint64_t now = ptx::global_nanoseconds();
    if (begin_ == 0) begin_ = now;
    return now - begin_ < length_ns_ && ptx::load_acquire(aborted_) == 0;
  }

 private:
  uint64_t begin_ = 0;  // of the limit
  uint64_t length_ns_;
  const uint32_t* aborted_;
  uint32_t polls_ = 0;
};

// Counters and flags of a program in this epoch.
struct Epoch {
  // What counter[wait.id] of a rank got in this epoch. Acquire: partner signal_counter().
  __device__ uint32_t arrived(uint32_t rank, const program::Wait& wait) const {
    const uint32_t before = wait.need * (number - 1);
    return ptx::load_acquire(&counters[rank * num_counters + wait.id]) - before;
  }
  // Acquire: partner signal_units().
  __device__ uint32_t flag(uint32_t rank, uint32_t id) const {
    return ptx::load_acquire(&flags[rank * num_flags + id]);
  }

  uint32_t* counters;
  uint32_t* flags;
  uint32_t num_counters, num_flags;
  uint32_t num_ranks;
  uint32_t number;
};

// For one thread, behind a barrier of its CTA: publishes the CTA's writes.
inline __device__ void signal_counter(const Epoch& epoch, uint32_t rank,
                                      const program::Signal& signal) {
  const bool all = signal.scope == program::SignalScope::kAllRanks;
  const uint32_t target = signal.scope == program::SignalScope::kLocal ? rank : signal.rank;
  for (uint32_t r = all ? 0 : target; r < (all ? epoch.num_ranks : target + 1); ++r) {
    ptx::add_release(&epoch.counters[r * epoch.num_counters + signal.id], 1);
  }
}

// For all threads, behind a barrier of their CTA: flags of units first, first + stride, ..., of
// `count` of them, take the epoch.
inline __device__ void signal_units(const Epoch& epoch, uint32_t rank,
                                    const program::Signal& signal, uint32_t first, uint32_t stride,
                                    uint32_t count) {
  for (uint32_t unit = threadIdx.x; unit < count; unit += blockDim.x) {
    uint32_t* flag = &epoch.flags[rank * epoch.num_flags + signal.id + first + unit * stride];
    ptx::store_release(flag, epoch.number);
  }
}

}  // namespace ultraspeed::cuda
