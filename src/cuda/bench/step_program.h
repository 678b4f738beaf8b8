// A verified program as `bench step` runs it on one rank alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cuda/bench/weight_rotation.h"
#include "cuda/cache_form.h"
#include "program/program.h"

namespace ultraspeed::cuda {

struct StepShape {
  uint32_t rows = 1;       // columns that carry tokens, of one sequence
  uint32_t positions = 0;  // in its KV caches before the step
  uint32_t live_experts = 0;
  bool has_own_routes = false;  // experts are those that the step's own Route chooses
};

// A route table that the host makes, or Route, and the layer whose experts read it.
struct PreparedRoute {
  program::BufferId buffer = program::kNoId;
  program::WeightId gate_up = program::kNoId;
  uint32_t max_slots = 1, max_pairs = 1;
  uint32_t num_chosen = 1;  // experts that a column chooses
};

struct StepProgram {
  program::Program program;
  std::vector<PreparedRoute> routes;  // a layer of experts each
};

// Two changes, which leave the stages' shapes and launches as they are:
// - Each layer has a route table of its own, behind the arena. Route still writes another one,
//   unless has_own_routes.
// - What other ranks would write a part of (residuals, partial sums, logits) gets memory that
//   nothing else is in, behind the arena: those parts stay the zeros that they start as.
StepProgram prepare_step(program::Program program, bool has_own_routes);

// How weights and caches lie.
struct StepForms {
  std::vector<WeightForm> weights;  // [WeightId]
  std::vector<CacheForm> caches;    // [CacheId]
};

// Stages that are alike but for the layer, and what one of them reads.
struct StageGroup {
  std::string name;              // without the layer, behind "draft." or "context." of those parts
  std::string shape;             // for people; "": nothing to say
  std::vector<uint32_t> stages;  // at least one; indices into Program::stages
  uint64_t bytes = 0;            // weights and KV caches that one reads
  std::string general_reason = {};  // general_stages.h; set by StepMachine
};

// Of the stages with tasks on the rank, in the order in which they first appear.
std::vector<StageGroup> group_stages(const program::Program& program, const StepForms& forms,
                                     uint32_t rank, const StepShape& shape);

}  // namespace ultraspeed::cuda
