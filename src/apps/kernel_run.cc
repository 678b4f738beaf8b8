#include "apps/kernel_run.h"

#include <algorithm>
#include <cmath>

#include "apps/bench_result.h"
#include "base/check.h"

namespace ultraspeed::apps {
namespace {

struct Expectation {
  std::string_view card;  // in the device's name
  double least_gb_s;
};
// A little less than the drains of docs/decode_bound.md, section 2.
constexpr Expectation kExpectations[] = {{"H100 80GB HBM3", 3050}, {"NVIDIA H200", 4300}};

double quantile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - std::floor(at)) * (sorted[above] - sorted[below]);
}

double rate(uint64_t bytes, double us) {
  return static_cast<double>(bytes) / us / 1e3;
}

std::string cuda_version(uint32_t version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

double tera_rate(uint64_t flop, double us) {
  return static_cast<double>(flop) / us / 1e6;
}

FloorFigures floor_figures(const cuda::KernelSamples& kernel, double us,
                           const cuda::KernelBench& bench) {
  FloorFigures figures;
  figures.tflop_s = tera_rate(kernel.flop, us);
  figures.floor_us = static_cast<double>(kernel.bytes) / ceiling_figures(bench).gb_s / 1e3;
  if (bench.peak && bench.peak->refusal.empty()) {
    const double peak = peak_figures(*bench.peak).tflop_s;
    figures.of_peak = figures.tflop_s / peak;
    figures.floor_us = std::max(figures.floor_us, static_cast<double>(kernel.flop) / peak / 1e6);
  }
  figures.of_floor = figures.floor_us / us;
  return figures;
}

bool has_floors(const cuda::KernelBench& bench) {
  return std::ranges::any_of(bench.kernels,
                             [](const cuda::KernelSamples& kernel) { return kernel.flop > 0; });
}

std::vector<std::string> measured_row(const cuda::KernelSamples& kernel,
                                      const KernelFigures& figures) {
  return {kernel.name,
          kernel.shape,
          fmt::format("{:.2f}", figures.us.median),
          fmt::format("{:.2f}", figures.us.p10),
          fmt::format("{:.2f}", figures.us.p90),
          fmt::format("{:.2f}", figures.drain_us.median),
          fmt::format("{:.1f}", static_cast<double>(kernel.bytes) / 1e6),
          fmt::format("{:.0f}", figures.gb_s),
          percent(figures.of_drain),
          percent(figures.of_ceiling)};
}

}  // namespace

Spread spread_of(const std::vector<double>& values) {
  US_CHECK(!values.empty());
  std::vector<double> sorted = values;
  std::ranges::sort(sorted);
  return {median(values), quantile(sorted, 0.1), quantile(sorted, 0.9)};
}

CeilingFigures ceiling_figures(const cuda::KernelBench& bench) {
  CeilingFigures figures;
  figures.us = spread_of(bench.ceiling_us);
  figures.gb_s = rate(bench.ceiling_bytes, figures.us.median);
  for (const Expectation& expectation : kExpectations) {
    if (bench.gpu.name.find(expectation.card) == std::string::npos) continue;
    figures.least_gb_s = expectation.least_gb_s;
    figures.counts = figures.gb_s >= figures.least_gb_s;
  }
  return figures;
}

PeakFigures peak_figures(const cuda::MatrixPeak& peak) {
  US_CHECK(peak.refusal.empty());
  const Spread us = spread_of(peak.us);
  return {us, tera_rate(peak.flop, us.median)};
}

KernelFigures kernel_figures(const cuda::KernelSamples& kernel, const cuda::KernelBench& bench) {
  US_CHECK(kernel.refusal.empty());
  KernelFigures figures;
  figures.us = spread_of(kernel.us);
  figures.drain_us = spread_of(kernel.drain_us);
  figures.gb_s = rate(kernel.bytes, figures.us.median);
  figures.of_drain = figures.drain_us.median / figures.us.median;
  figures.of_ceiling = figures.gb_s / ceiling_figures(bench).gb_s;
  if (kernel.flop > 0) figures.floor = floor_figures(kernel, figures.us.median, bench);
  return figures;
}

std::string verdict(const cuda::KernelBench& bench) {
  const CeilingFigures figures = ceiling_figures(bench);
  if (figures.least_gb_s == 0) {
    return fmt::format(
        "this run DOES NOT COUNT: the drain of 8 GB reads {:.0f} GB/s, and what a {} should read "
        "is not known",
        figures.gb_s, bench.gpu.name);
  }
  if (figures.counts) {
    return fmt::format("this run counts: the drain of 8 GB reads {:.0f} GB/s, at least {:.0f}",
                       figures.gb_s, figures.least_gb_s);
  }
  return fmt::format(
      "this run DOES NOT COUNT: the drain of 8 GB reads {:.0f} GB/s, and such a card reads {:.0f} "
      "or more; does something else use the GPU, or is it throttled?",
      figures.gb_s, figures.least_gb_s);
}

std::string describe_gpu(const cuda::GpuFacts& gpu) {
  std::string text = fmt::format("{}, {} multiprocessors, CUDA {} (the driver's {})", gpu.name,
                                 gpu.num_multiprocessors, cuda_version(gpu.cuda_runtime),
                                 cuda_version(gpu.cuda_driver));
  if (!gpu.driver.empty()) text += fmt::format(", driver {}", gpu.driver);
  if (!gpu.clocks) return text;
  return text + fmt::format(", {} of {} MHz, memory {} of {} MHz", gpu.clocks->sm_mhz,
                            gpu.clocks->max_sm_mhz, gpu.clocks->memory_mhz,
                            gpu.clocks->max_memory_mhz);
}

std::string describe_run(const KernelRun& run) {
  std::string text = fmt::format("{}, rank {} of {}, {} rows in {} columns", run.config, run.rank,
                                 run.num_ranks, run.rows, run.width);
  if (run.live_experts > 0) text += fmt::format(", {} live experts", run.live_experts);
  return text;
}

TextTable kernel_table(const cuda::KernelBench& bench) {
  TextTable table;
  table.head = {"kernel",   "shape", "us",   "p10",      "p90",
                "drain us", "MB",    "GB/s", "of drain", "of ceiling"};
  table.num_names = 2;
  if (has_floors(bench)) table.head.insert(table.head.end(), {"TFLOP/s", "floor us", "of floor"});
  const CeilingFigures ceiling = ceiling_figures(bench);
  table.rows.push_back({"ceiling", "drain, one launch", fmt::format("{:.2f}", ceiling.us.median),
                        fmt::format("{:.2f}", ceiling.us.p10),
                        fmt::format("{:.2f}", ceiling.us.p90), "",
                        fmt::format("{:.1f}", static_cast<double>(bench.ceiling_bytes) / 1e6),
                        fmt::format("{:.0f}", ceiling.gb_s), "", percent(1)});
  table.rows.back().resize(table.head.size());
  for (const cuda::KernelSamples& kernel : bench.kernels) {
    if (kernel.refusal.empty()) {
      const KernelFigures figures = kernel_figures(kernel, bench);
      table.rows.push_back(measured_row(kernel, figures));
      if (figures.floor) {
        table.rows.back().insert(
            table.rows.back().end(),
            {fmt::format("{:.1f}", figures.floor->tflop_s),
             fmt::format("{:.1f}", figures.floor->floor_us), percent(figures.floor->of_floor)});
      }
      table.rows.back().resize(table.head.size());
    } else {
      table.rows.push_back({kernel.name, kernel.shape, "not measured: " + kernel.refusal});
    }
  }
  return table;
}

std::vector<std::string> kernel_notes(const cuda::KernelBench& bench) {
  std::vector<std::string> notes;
  for (const cuda::KernelSamples& kernel : bench.kernels) {
    if (!kernel.refusal.empty()) continue;
    const std::string note =
        fmt::format("{} launches a graph, medians of {} graphs; in memory {}, one set a launch",
                    kernel.num_nodes, kernel.us.size(), kernel.data);
    if (std::ranges::find(notes, note) == notes.end()) notes.push_back(note);
  }
  if (bench.peak && bench.peak->refusal.empty()) {
    notes.push_back(
        fmt::format("floor: the larger of bytes by the ceiling and FLOP by the {:.0f} TFLOP/s that "
                    "cuBLASLt reaches with large e4m3 matrices",
                    peak_figures(*bench.peak).tflop_s));
  } else if (bench.peak) {
    notes.push_back(fmt::format("floor: bytes by the ceiling alone, as {}", bench.peak->refusal));
  }
  if (bench.kernels.empty()) notes.push_back("no kernel of this program fits this model");
  return notes;
}

std::string kernel_text(const KernelRun& run) {
  std::string text = fmt::format("{}\n{}\n{}\n\n{}", describe_gpu(run.bench.gpu), describe_run(run),
                                 verdict(run.bench), plain_table(kernel_table(run.bench)));
  for (const std::string& note : kernel_notes(run.bench)) text += note + "\n";
  return text;
}

}  // namespace ultraspeed::apps
