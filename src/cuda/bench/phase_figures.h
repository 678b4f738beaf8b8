// What measure_phases() (phase_bench.h) finds.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "cuda/resident/phase_ctas.h"

namespace ultraspeed::cuda {

// Phases that are alike, in one step; means of a phase. A span goes from the end of the phase
// before to its own; its hand-off is over when the last CTA has what the phase needs.
struct PhaseRow {
  std::string name;
  uint32_t count = 0;
  double span_us = 0, hand_off_us = 0, longest_us = 0;
  double slowest_hand_off_us = 0;
};

// A CTA's part in a phase, nanoseconds from the step's first: when it had what the phase needs, and
// when it counted itself.
struct PhaseTask {
  uint32_t row = 0;  // of PhaseBench::rows
  uint32_t phase = 0, cta = 0;
  uint64_t begin_ns = 0, end_ns = 0;
};

struct PhaseBench {
  PhaseCtas ctas;
  uint32_t num_phases = 0;
  std::set<std::string> left_out;             // why stages were, of both measurements
  std::vector<double> resident_us, graph_us;  // of a step, ascending
  // Of all buffers after a step, those with other bits than the graph's kernels leave.
  uint64_t different_floats = 0;
  std::vector<PhaseRow> rows;
  std::vector<PhaseTask> tasks;  // of one step, phase by phase
};

}  // namespace ultraspeed::cuda
