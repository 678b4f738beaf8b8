// A run of `bench kernels`: what was measured, and every figure that follows from it. The figures
// are computed here alone, for the tables, the JSON and `report check`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/bench_shape.h"
#include "apps/gpu_figures.h"
#include "apps/provenance.h"
#include "apps/text_table.h"
#include "base/result.h"
#include "cuda/bench/kernel_bench.h"

namespace ultraspeed::apps {

struct KernelRun : BenchShape {
  Provenance made_by;
  cuda::KernelBench bench;
};

// Of the product of large matrices.
struct PeakFigures {
  Spread us;
  double tflop_s = 0;  // 10^12 a second, of the median
};
// REQUIRES: no refusal.
PeakFigures peak_figures(const cuda::MatrixPeak& peak);

// Of a kernel whose products count beside its bytes.
struct FloorFigures {
  double tflop_s = 0;
  double of_peak = 0;   // 0: no peak is known
  double floor_us = 0;  // the larger of bytes / ceiling and, if it is known, flop / peak
  double of_floor = 0;  // the floor / the median
};

struct KernelFigures {
  Spread us, drain_us;
  double gb_s = 0;
  double of_drain = 0;                // speed as a fraction of the drain's
  double of_ceiling = 0;              // of the drain of 8 GB
  std::optional<FloorFigures> floor;  // where there is flop
};
// REQUIRES: no refusal.
KernelFigures kernel_figures(const cuda::KernelSamples& kernel, const cuda::KernelBench& bench);

TextTable kernel_table(const cuda::KernelBench& bench);
// Lines that a table needs beside it: what rotates, and what was not found.
std::vector<std::string> kernel_notes(const cuda::KernelBench& bench);

// All of it for a terminal; ends with a newline.
std::string kernel_text(const KernelRun& run);
// Bars of the fraction of the ceiling.
std::string kernel_svg(const KernelRun& run);

inline constexpr char kKernelRunSchema[] = "ultraspeed-bench-kernels/1";  // docs/benchmarks.md
nlohmann::ordered_json kernel_json(const KernelRun& run);
// The raw numbers of kernel_json(). Errors: kInvalidData, naming `label` and the path.
Result<KernelRun> read_kernel_run(const nlohmann::ordered_json& json, const std::string& label);

}  // namespace ultraspeed::apps
