// A program while it is being made: stages with tiles that name what they wait for by stage, before
// counters, memory and pages have been assigned. Internal to plan/.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/weights.h"
#include "plan/plan.h"
#include "program/program.h"

namespace ultraspeed::plan {

// "All tiles of `stage` with this group that signal my rank", or the slot flags of `stage`.
struct Dependency {
  uint32_t stage = program::kNoId;
  uint32_t group = 0;
  program::WaitKind kind = program::WaitKind::kNone;
};

struct Tile {
  uint32_t rank = 0;
  uint32_t worker = 0;
  uint32_t row_begin = 0;
  uint32_t row_count = 0;
  uint32_t part = 0;
  Dependency after[2];
  // What its completion counts for; scope and target as in program::Signal.
  uint32_t group = 0;
  program::SignalScope scope = program::SignalScope::kLocal;
  uint32_t target_rank = 0;
};

struct StageDraft {
  program::Stage stage;
  std::vector<Tile> tiles;  // of all ranks; per worker in list order
};

struct Draft {
  program::Program program;  // weights, caches, buffers; stages and lists come last
  std::vector<StageDraft> stages;
  std::vector<model::WeightSource> sources;  // [weights]
};

// The passes, in order. Each leaves the draft consistent for the next.

// Stages and tiles (lower.cc).
Status lower(const model::ModelConfig& config, const ShapeLookup& shape_of,
             const program::DeviceLimits& limits, const PlanOptions& options, Draft* draft);

// Errors: kUnsupported for a drafter of another model (lower_draft.cc).
Status check_drafter(const model::ModelConfig& config, const model::DrafterConfig& drafter);

// Errors: kUnsupported for more heads than a program can have (lower_mtp.cc).
Status check_mtp(const model::ModelConfig& heads);

// Moves the tiles into the workers' task lists (schedule.cc).
void build_lists(Draft* draft);

// Gives every (stage, group) that somebody waits for a counter, loops over units their flags, and
// sets thresholds (schedule.cc).
void insert_counters(Draft* draft);

// Places the buffers in the arena; values whose lives do not overlap share memory (memory.cc).
void plan_memory(Draft* draft);

// Numbers the blocks of the packed weight arena in the order of weights and tiles; stages that use
// the same weight share its blocks (weight_blocks.cc).
void layout_weight_blocks(Draft* draft);

}  // namespace ultraspeed::plan
