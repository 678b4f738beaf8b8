// What a program moves and waits for, added up over its tasks. Internal to plan/, for report.cc.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "plan/plan.h"
#include "plan/report.h"

namespace ultraspeed::plan {

// Bytes of rank 0's weights, stored and read. A weight that no task streams is read once a step
// (norms, sinks, biases); of the embedding, one row a column.
std::array<GroupBytes, kNumWeightGroups> weight_bytes(const Plan& plan);

// Bytes by which the packed weight arena of a rank exceeds the matrices in it.
uint64_t block_padding_bytes(const Plan& plan);

// Elements of keys and values on one rank: kept for one sequence of `context` positions, and read
// by a step whose columns are that sequence's next.
struct KvElements {
  uint64_t pages = 0;
  uint64_t rings = 0;
  uint64_t read = 0;
};
KvElements kv_elements(const program::Program& program, uint32_t context);

// [num_layers]: by how many waits each layer lengthens the longest chain of dependencies.
std::vector<uint32_t> hops_per_layer(const program::Program& program, uint32_t num_layers);

}  // namespace ultraspeed::plan
