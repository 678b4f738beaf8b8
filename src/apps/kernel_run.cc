#include "apps/kernel_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace ultraspeed::apps {
namespace {

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
  figures.gb_s = gb_per_second(kernel.bytes, figures.us.median);
  figures.of_drain = figures.drain_us.median / figures.us.median;
  figures.of_ceiling = figures.gb_s / ceiling_figures(bench).gb_s;
  if (kernel.flop > 0) figures.floor = floor_figures(kernel, figures.us.median, bench);
  return figures;
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
  std::string text =
      fmt::format("{}\n{}\n{}\n\n{}", describe_gpu(run.bench.gpu), describe_shape(run),
                  verdict(run.bench), plain_table(kernel_table(run.bench)));
  for (const std::string& note : kernel_notes(run.bench)) text += note + "\n";
  return text;
}

}  // namespace ultraspeed::apps
