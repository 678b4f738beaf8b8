// When the tasks of a step waited and ran, for whoever looks for what a step waits for.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "program/program.h"

namespace ultraspeed::program {

// Nanoseconds of the executor's clock, one for all workers.
struct TaskTime {
  uint64_t wait_ns = 0;   // its worker came to it
  uint64_t begin_ns = 0;  // what it waits for was there; on a processor, which waits for the slots
                          // of each unit, what its first unit waits for
  uint64_t end_ns = 0;    // its results are written, and not signalled yet
};

struct StepTrace {
  uint64_t begin_ns = 0, end_ns = 0;         // of the step
  std::vector<std::vector<TaskTime>> lists;  // as Program::lists
};

// Told each step when it is done; outside of what the trace timed.
using TraceSink = std::function<void(const Program&, const StepTrace&)>;

}  // namespace ultraspeed::program
