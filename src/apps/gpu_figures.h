// Figures that follow from what was measured of a GPU's memory, as text and JSON: what the runs of
// `bench kernels` and `bench step` have in common. Computed here alone.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/json_object.h"
#include "base/result.h"
#include "cuda/bench/measured_gpu.h"

namespace ultraspeed::apps {

struct Spread {
  double median = 0;
  double p10 = 0, p90 = 0;  // linear between the samples beside them
};
// REQUIRES: not empty.
Spread spread_of(const std::vector<double>& values);

// 10^9 bytes a second.
double gb_per_second(uint64_t bytes, double us);

struct CeilingFigures {
  Spread us;
  double gb_s = 0;        // of the median
  double least_gb_s = 0;  // what such a card reads if nothing is in its way; 0: not known
  bool counts = false;    // at least that
};
CeilingFigures ceiling_figures(const cuda::MeasuredGpu& measured);

// Whether the run counts, as a sentence.
std::string verdict(const cuda::MeasuredGpu& measured);

// "NVIDIA H100 80GB HBM3, driver 580.65.06, CUDA 13.0, ...": one line.
std::string describe_gpu(const cuda::GpuFacts& gpu);

// "93.1 %".
std::string percent(double share);

// median_us, p10_us, p90_us, each behind the prefix.
void add_spread(const std::string& prefix, const Spread& spread, nlohmann::ordered_json* json);

// The members "gpu" and "ceiling" (docs/benchmarks.md), and reading them back. Errors:
// kInvalidData.
void add_gpu(const cuda::MeasuredGpu& measured, nlohmann::ordered_json* json);
Result<cuda::MeasuredGpu> read_gpu(const JsonObject& json);

}  // namespace ultraspeed::apps
