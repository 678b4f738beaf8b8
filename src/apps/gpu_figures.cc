#include "apps/gpu_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/bench_result.h"
#include "base/check.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

struct Expectation {
  std::string_view card;  // in the device's name
  double least_gb_s;
};
// A little less than the drains of docs/decode_bound.md, section 2.
constexpr Expectation kExpectations[] = {{"H100 80GB HBM3", 3050}, {"NVIDIA H200", 4300}};

std::string cuda_version(uint32_t version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

ordered_json facts_json(const cuda::GpuFacts& gpu) {
  ordered_json json = {{"name", gpu.name},
                       {"multiprocessors", gpu.num_multiprocessors},
                       {"memory_bytes", gpu.memory_bytes},
                       {"l2_bytes", gpu.l2_bytes},
                       {"cuda_driver", gpu.cuda_driver},
                       {"cuda_runtime", gpu.cuda_runtime},
                       {"driver", gpu.driver}};
  if (gpu.clocks) {
    json["clocks"] = {{"sm_mhz", gpu.clocks->sm_mhz},
                      {"memory_mhz", gpu.clocks->memory_mhz},
                      {"max_sm_mhz", gpu.clocks->max_sm_mhz},
                      {"max_memory_mhz", gpu.clocks->max_memory_mhz}};
  }
  return json;
}

Result<cuda::GpuFacts> read_facts(const JsonObject& json) {
  cuda::GpuFacts gpu;
  US_ASSIGN(gpu.name, json.text("name"));
  US_ASSIGN(gpu.num_multiprocessors, json.small_number("multiprocessors"));
  US_ASSIGN(gpu.memory_bytes, json.number("memory_bytes"));
  US_ASSIGN(gpu.l2_bytes, json.number("l2_bytes"));
  US_ASSIGN(gpu.cuda_driver, json.small_number("cuda_driver"));
  US_ASSIGN(gpu.cuda_runtime, json.small_number("cuda_runtime"));
  US_ASSIGN(gpu.driver, json.text("driver"));
  if (!json.has("clocks")) return gpu;
  US_ASSIGN(const JsonObject clocks, json.object("clocks"));
  gpu.clocks.emplace();
  US_ASSIGN(gpu.clocks->sm_mhz, clocks.small_number("sm_mhz"));
  US_ASSIGN(gpu.clocks->memory_mhz, clocks.small_number("memory_mhz"));
  US_ASSIGN(gpu.clocks->max_sm_mhz, clocks.small_number("max_sm_mhz"));
  US_ASSIGN(gpu.clocks->max_memory_mhz, clocks.small_number("max_memory_mhz"));
  return gpu;
}

}  // namespace

Spread spread_of(const std::vector<double>& values) {
  US_CHECK(!values.empty());
  return {median(values), quantile(values, 0.1), quantile(values, 0.9)};
}

double gb_per_second(uint64_t bytes, double us) {
  return static_cast<double>(bytes) / us / 1e3;
}

CeilingFigures ceiling_figures(const cuda::MeasuredGpu& measured) {
  CeilingFigures figures;
  figures.us = spread_of(measured.ceiling_us);
  figures.gb_s = gb_per_second(measured.ceiling_bytes, figures.us.median);
  for (const Expectation& expectation : kExpectations) {
    if (measured.gpu.name.find(expectation.card) == std::string::npos) continue;
    figures.least_gb_s = expectation.least_gb_s;
    figures.counts = figures.gb_s >= figures.least_gb_s;
  }
  return figures;
}

std::string verdict(const cuda::MeasuredGpu& measured) {
  const CeilingFigures figures = ceiling_figures(measured);
  if (figures.least_gb_s == 0) {
    return fmt::format(
        "this run DOES NOT COUNT: the drain of 8 GB reads {:.0f} GB/s, and what a {} should read "
        "is not known",
        figures.gb_s, measured.gpu.name);
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

std::string percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

void add_spread(const std::string& prefix, const Spread& spread, ordered_json* json) {
  (*json)[prefix + "median_us"] = spread.median;
  (*json)[prefix + "p10_us"] = spread.p10;
  (*json)[prefix + "p90_us"] = spread.p90;
}

void add_gpu(const cuda::MeasuredGpu& measured, ordered_json* json) {
  const CeilingFigures figures = ceiling_figures(measured);
  ordered_json ceiling = {{"bytes", measured.ceiling_bytes}, {"us", measured.ceiling_us}};
  add_spread("", figures.us, &ceiling);
  ceiling["gb_s"] = figures.gb_s;
  ceiling["least_gb_s"] = figures.least_gb_s;
  ceiling["counts"] = figures.counts;
  (*json)["gpu"] = facts_json(measured.gpu);
  (*json)["ceiling"] = std::move(ceiling);
}

Result<cuda::MeasuredGpu> read_gpu(const JsonObject& json) {
  cuda::MeasuredGpu measured;
  US_ASSIGN(const JsonObject gpu, json.object("gpu"));
  US_ASSIGN(measured.gpu, read_facts(gpu));
  US_ASSIGN(const JsonObject ceiling, json.object("ceiling"));
  US_ASSIGN(measured.ceiling_bytes, ceiling.number("bytes"));
  if (measured.ceiling_bytes == 0) return ceiling.error("bytes", "expected more than 0");
  US_ASSIGN(measured.ceiling_us, ceiling.samples("us"));
  return measured;
}

}  // namespace ultraspeed::apps
