// What each part of the design is worth: a step of the same model with the parts added one by one,
// and with each of them left out alone.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/provenance.h"
#include "apps/text_table.h"

namespace ultraspeed::apps {

enum class Experts { kFp8, kMxfp4 };

// A step, or with speculation a cycle: draft, if the run has a drafter, and verify.
struct AblationStep {
  Experts experts = Experts::kFp8;
  uint32_t rows = 1;         // more than 1: speculation
  bool is_resident = false;  // in kernels that stay; false: as a graph
  std::vector<double> us;    // samples
};

// The samples of a run. Of FP8 experts kernels that stay have no phases: they are graphs alone.
struct AblationRun {
  Provenance made_by;
  std::string gpu, shape;      // a line each
  double accepted_length = 1;  // tokens that a cycle of several rows gives
  std::vector<AblationStep> steps;
};

// A row of the table.
struct AblationFigure {
  std::string name;
  double step_us = 0;  // median
  double tokens_per_second = 0;
  double speedup = 0;  // over the first
};
// FP8 experts, a row a step, a graph; with MXFP4; with speculation; in kernels that stay; then the
// last without each of the three. REQUIRES: the five different steps are there.
std::vector<AblationFigure> ablation_figures(const AblationRun& run);

std::string ablation_text(const AblationRun& run);
inline constexpr char kAblationRunSchema[] = "ultraspeed-bench-ablation/1";  // docs/benchmarks.md
nlohmann::ordered_json ablation_json(const AblationRun& run);
std::string ablation_svg(const AblationRun& run);

}  // namespace ultraspeed::apps
