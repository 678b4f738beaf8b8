// The memory half of the ordering proof: who wrote each part of each value, and who holds each part
// of the activation arenas. For verify_order.cc alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "program/access.h"
#include "program/program.h"

namespace ultraspeed::program::internal {

// [thread]: how far a thread, which is a worker of a rank, is known to have come. Two ticks a task:
// at the first its units are done, which flags can tell, at the second all of it.
using Clock = std::vector<uint32_t>;
inline uint32_t units_done(uint32_t task_index) {
  return 2 * task_index + 1;
}
inline uint32_t task_done(uint32_t task_index) {
  return 2 * task_index + 2;
}

inline void join_clocks(Clock* target, const Clock& source) {
  uint32_t* a = target->data();
  const uint32_t* b = source.data();
  for (size_t i = 0; i < target->size(); ++i) a[i] = std::max(a[i], b[i]);
}

inline bool covers(const Clock& clock, const Clock& needed) {
  uint32_t missing = 0;
  for (size_t i = 0; i < clock.size(); ++i) missing |= clock[i] < needed[i] ? 1u : 0u;
  return missing == 0;
}

struct TaskId {
  uint32_t thread = 0;
  uint32_t index = 0;
};

class MemoryProof {
 public:
  explicit MemoryProof(const Program& program);

  // Every read with this per_unit sees a complete value, after its writes, still in its memory.
  Status check_reads(TaskId task, const Clock& clock, const std::vector<Access>& accesses,
                     bool per_unit);
  // Every write is the first of its range, and after all use of the memory's former values.
  Status apply_writes(TaskId task, const Clock& clock, const std::vector<Access>& accesses);
  // The host's and the next step's values are complete and still in their memory.
  Status check_outputs() const;

 private:
  struct Write {
    uint32_t begin, end;
    TaskId task;
  };
  struct Value {                // a buffer on a rank
    std::vector<Write> writes;  // sorted, disjoint
    Clock used;                 // latest access of each thread; empty without memory or use
  };
  struct Segment {  // a piece of the arena that no buffer boundary cuts, on a rank
    BufferId holder = kNoId;
    Clock former;  // accesses of the former holder; empty: none
  };

  Value& value(uint32_t rank, BufferId buffer) {
    return values_[uint64_t{rank} * program_.buffers.size() + buffer];
  }
  Segment& segment(uint32_t rank, size_t index) { return segments_[rank * num_segments_ + index]; }
  const Segment& segment(uint32_t rank, size_t index) const {
    return segments_[rank * num_segments_ + index];
  }

  Status take_memory(TaskId task, const Clock& clock, const Access& write);
  void mark_used(TaskId task, const Access& access);
  tl::unexpected<Error> fail(TaskId task, const Access& access, const std::string& what) const;

  const Program& program_;
  size_t num_segments_ = 0;
  std::vector<Value> values_;                         // [rank, buffer]
  std::vector<Segment> segments_;                     // [rank, segment]
  std::vector<std::pair<uint32_t, uint32_t>> spans_;  // [buffer]: its segments [first, last)
};

}  // namespace ultraspeed::program::internal
