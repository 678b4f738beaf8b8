// Which parts of which buffers a task reads and writes, derived from its operands and tile alone.
// verify() proves orderings from it; the schedule shuffler and reports use it too.
#pragma once

#include <cstdint>
#include <vector>

#include "program/program.h"

namespace ultraspeed::program {

// Every declaration that a stage's operands name; absent ones (kNoId) are left out.
struct StageReferences {
  std::vector<BufferId> buffers;
  std::vector<WeightId> weights;
  std::vector<CacheId> caches;
};
StageReferences stage_references(const Operands& operands);

// The half-open range [begin, end) of a buffer's tiled axis (BufferDecl::extent) on one rank.
struct Access {
  uint32_t rank = 0;
  BufferId buffer = kNoId;
  uint32_t begin = 0;
  uint32_t end = 0;
  bool is_write = false;
  bool per_unit = false;  // a read that each unit does after its own slot's wait
  // A read of how many units there are. Who has none does it, too, and sets no flag: no flag says
  // that it is done.
  bool of_bounds = false;
  // A write of what only some steps' parameters ask for: reports count it apart.
  bool on_demand = false;
};

// Replaces *out by the accesses of a task that runs on `rank`. REQUIRES: task.stage is in range.
void task_accesses(const Program& program, uint32_t rank, const Task& task,
                   std::vector<Access>* out);

// Rows of the weight matrix that the task streams, and which weight; {kNoId} without weights.
struct WeightRows {
  WeightId weight = kNoId;
  uint64_t rows = 0;  // in one unit of the task
};
WeightRows task_weight_rows(const Program& program, const Task& task);

// Units of a task that loops over live experts, if all `max_slots` were live; 1 for all others.
uint32_t task_max_units(const Program& program, const Task& task);

}  // namespace ultraspeed::program
