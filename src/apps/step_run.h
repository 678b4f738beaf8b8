// A run of `bench step`: what was measured, and every figure that follows from it. The figures are
// computed here alone, for the tables, the JSON and `report check`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/bench_shape.h"
#include "apps/gpu_figures.h"
#include "apps/provenance.h"
#include "apps/text_table.h"
#include "base/result.h"
#include "cuda/bench/step_bench.h"

namespace ultraspeed::apps {

struct StepRun : BenchShape {
  Provenance made_by;
  uint32_t positions = 0;      // in the KV caches before the step
  uint32_t all_reduce_ns = 0;  // that other ranks' shares of sums take to come
  program::Activations activations = program::Activations::kW4a8;
  program::KvCacheType kv_cache = program::KvCacheType::kF32;
  cuda::StepBench bench;
};

// Bytes against the time that reading them took. What reads nothing has rates of 0.
struct Reading {
  uint64_t bytes = 0;
  double us = 0;
  double gb_s = 0;
  double of_ceiling = 0;  // of the drain of 8 GB
};

Reading reading_of(uint64_t bytes, double us, const cuda::MeasuredGpu& gpu);
// One stage of a group.
Reading stage_reading(const cuda::StageSamples& stage, const cuda::MeasuredGpu& gpu);

// All stages of an operation in a step.
struct OpFigures {
  program::Opcode opcode = program::Opcode::kEmbed;
  uint32_t count = 0;
  Reading reading;
  double share = 0;  // of the sum over all operations
};

struct StepFigures {
  Spread us;
  Reading reading;             // of the median
  std::vector<OpFigures> ops;  // in the order of opcodes
  double sum_us = 0;           // of them
  double of_sum = 0;           // the step's median / sum_us
  // [(tokens that a step is accepted for, tokens a second)]; no more tokens than rows.
  std::vector<std::pair<double, double>> tokens_per_second;
};
StepFigures step_figures(const StepRun& run);
// The last of them for a step of other kernels, and as a line.
std::vector<std::pair<double, double>> token_rates(const StepRun& run, double step_us);
std::string rates_text(const std::vector<std::pair<double, double>>& rates);

// The shard, the positions and the mode: one line.
std::string describe_step(const StepRun& run);

TextTable step_table(const StepRun& run);
// Lines that a table needs beside it.
std::vector<std::string> step_notes(const StepRun& run);

// All of it for a terminal; ends with a newline.
std::string step_text(const StepRun& run);
// What the resident kernels of tiles took beside a graph of the same stages. REQUIRES: both were
// measured.
std::string resident_text(const StepRun& run);
// One of its steps for ui.perfetto.dev: a track a CTA, grouped by kernels.
std::string resident_trace(const cuda::PhaseBench& bench);
// Bars of each operation's time beside that of the same bytes at the ceiling.
std::string step_svg(const StepRun& run);

inline constexpr char kStepRunSchema[] = "ultraspeed-bench-step/1";  // docs/benchmarks.md
nlohmann::ordered_json step_json(const StepRun& run);
// The raw numbers of step_json(). Errors: kInvalidData, naming `label` and the path.
Result<StepRun> read_step_run(const nlohmann::ordered_json& json, const std::string& label);

}  // namespace ultraspeed::apps
