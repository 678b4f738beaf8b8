// What a program moves and waits for, added up over its tasks. Internal to plan/, for report.cc.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "plan/plan.h"
#include "plan/report.h"

namespace ultraspeed::plan {

// A CUDA context took 0.55 GB of an H200; the rest is for modules and communication buffers.
inline constexpr uint64_t kReservedBytes = 2'000'000'000;

// Bytes of a rank's weights, stored and read: none where it has no share. A weight that no task
// streams is read once a step (norms, sinks, biases); of the embedding, one row a column.
std::array<GroupBytes, kNumWeightGroups> weight_bytes(const Plan& plan, uint32_t rank);

// One step's read of a weight that is not streamed in tiles.
uint64_t gathered_bytes(const Plan& plan, program::WeightId id);

// The most live experts that the task's loop can meet; 1 for tasks that do not loop.
uint32_t max_slots(const program::Program& program, const program::Task& task);

// Bytes by which the packed weight arena of a rank exceeds the matrices in it.
uint64_t block_padding_bytes(const Plan& plan);

// Of rank 0's tasks, counters and flags.
uint64_t task_list_bytes(const program::Program& program);

// Elements of keys and values that a stage reads on a rank that has a share of its cache.
uint64_t kv_elements_read(const program::Program& program,
                          const program::AttentionOperands& attention, uint32_t context);

// Elements of keys and values on a rank: kept for one sequence of `context` positions, and read
// by a step whose columns are that sequence's next.
struct KvElements {
  uint64_t pages = 0;
  uint64_t rings = 0;
  uint64_t read = 0;
};
KvElements kv_elements(const program::Program& program, uint32_t rank, uint32_t context);

// [num_layers]: by how many waits each layer lengthens the longest chain of dependencies.
std::vector<uint32_t> hops_per_layer(const program::Program& program, uint32_t num_layers);

}  // namespace ultraspeed::plan
