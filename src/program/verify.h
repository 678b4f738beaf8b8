// The proof that a program computes what its stages say, in every legal execution.
//
// verify() proves: ids, tiles and pages are in range and agree across ranks; every counter's
// threshold equals the increments it gets; every worker's list is a linear extension of the
// dependencies (no deadlock); every value is written exactly once, read only where it is complete
// and only after its writes; no memory is reused while a reader or writer of its former value may
// still run; a worker's ring holds the weight pages that it needs at once.
//
// Ordering is proven with vector clocks: one entry a worker, joined through counters. A counter's
// waiters wait for all of its producers, so the clock of a full counter is exact. Given these
// facts, a program's results are a function of its stages and tiles alone, not of the schedule.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "program/program.h"

namespace ultraspeed::program {

struct VerifyReport {
  uint64_t num_tasks = 0;  // of all ranks
  uint64_t num_waits = 0;  // dependencies: waits of all tasks
  uint64_t num_cross_rank_signals = 0;
  uint32_t critical_path_hops = 0;  // waits on the longest chain of dependencies
};

// Errors: kInvalidData; the message names the task, the rule, and what was expected.
Result<VerifyReport> verify(const Program& program);

}  // namespace ultraspeed::program
