// `bench kernels --json` and reading it back.
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/json_object.h"
#include "apps/kernel_run.h"

namespace ultraspeed::apps {
namespace {

using cuda::GpuFacts;
using cuda::KernelBench;
using cuda::KernelSamples;
using cuda::MatrixPeak;
using nlohmann::ordered_json;

ordered_json gpu_json(const GpuFacts& gpu) {
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

void add_spread(const std::string& prefix, const Spread& spread, ordered_json* json) {
  (*json)[prefix + "median_us"] = spread.median;
  (*json)[prefix + "p10_us"] = spread.p10;
  (*json)[prefix + "p90_us"] = spread.p90;
}

ordered_json ceiling_json(const KernelBench& bench) {
  const CeilingFigures figures = ceiling_figures(bench);
  ordered_json json = {{"bytes", bench.ceiling_bytes}, {"us", bench.ceiling_us}};
  add_spread("", figures.us, &json);
  json["gb_s"] = figures.gb_s;
  json["least_gb_s"] = figures.least_gb_s;
  json["counts"] = figures.counts;
  return json;
}

ordered_json peak_json(const MatrixPeak& peak) {
  if (!peak.refusal.empty()) return {{"refusal", peak.refusal}};
  const PeakFigures figures = peak_figures(peak);
  ordered_json json = {{"flop", peak.flop}, {"us", peak.us}};
  add_spread("", figures.us, &json);
  json["tflop_s"] = figures.tflop_s;
  return json;
}

ordered_json one_kernel_json(const KernelSamples& kernel, const KernelBench& bench) {
  ordered_json json = {{"name", kernel.name}, {"shape", kernel.shape}};
  if (!kernel.refusal.empty()) {
    json["refusal"] = kernel.refusal;
    return json;
  }
  const KernelFigures figures = kernel_figures(kernel, bench);
  json["data"] = kernel.data;
  json["bytes"] = kernel.bytes;
  if (kernel.flop > 0) json["flop"] = kernel.flop;
  json["nodes"] = kernel.num_nodes;
  json["us"] = kernel.us;
  json["drain_us"] = kernel.drain_us;
  add_spread("", figures.us, &json);
  add_spread("drain_", figures.drain_us, &json);
  json["gb_s"] = figures.gb_s;
  json["of_drain"] = figures.of_drain;
  json["of_ceiling"] = figures.of_ceiling;
  if (!figures.floor) return json;
  json["tflop_s"] = figures.floor->tflop_s;
  json["of_peak"] = figures.floor->of_peak;
  json["floor_us"] = figures.floor->floor_us;
  json["of_floor"] = figures.floor->of_floor;
  return json;
}

Result<GpuFacts> read_gpu(const JsonObject& json) {
  GpuFacts gpu;
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

Result<MatrixPeak> read_peak(const JsonObject& json) {
  MatrixPeak peak;
  if (json.has("refusal")) {
    US_ASSIGN(peak.refusal, json.text("refusal"));
    if (!peak.refusal.empty()) return peak;
  }
  US_ASSIGN(peak.flop, json.number("flop"));
  if (peak.flop == 0) return json.error("flop", "expected more than 0");
  US_ASSIGN(peak.us, json.samples("us"));
  return peak;
}

Result<KernelSamples> read_kernel(const JsonObject& json) {
  KernelSamples kernel;
  US_ASSIGN(kernel.name, json.text("name"));
  US_ASSIGN(kernel.shape, json.text("shape"));
  if (json.has("refusal")) {
    US_ASSIGN(kernel.refusal, json.text("refusal"));
    if (!kernel.refusal.empty()) return kernel;
  }
  US_ASSIGN(kernel.data, json.text("data"));
  US_ASSIGN(kernel.bytes, json.number("bytes"));
  if (json.has("flop")) {
    US_ASSIGN(kernel.flop, json.number("flop"));
    if (kernel.flop == 0) return json.error("flop", "expected more than 0");
  }
  US_ASSIGN(kernel.num_nodes, json.small_number("nodes"));
  US_ASSIGN(kernel.us, json.samples("us"));
  US_ASSIGN(kernel.drain_us, json.samples("drain_us"));
  return kernel;
}

}  // namespace

ordered_json kernel_json(const KernelRun& run) {
  ordered_json kernels = ordered_json::array();
  for (const KernelSamples& kernel : run.bench.kernels) {
    kernels.push_back(one_kernel_json(kernel, run.bench));
  }
  ordered_json json = {{"schema", kKernelRunSchema},
                       {"version", run.made_by.version},
                       {"commit", run.made_by.commit},
                       {"command", run.made_by.command},
                       {"config", run.config},
                       {"ranks", run.num_ranks},
                       {"rank", run.rank},
                       {"width", run.width},
                       {"rows", run.rows},
                       {"live_experts", run.live_experts},
                       {"gpu", gpu_json(run.bench.gpu)},
                       {"ceiling", ceiling_json(run.bench)}};
  if (run.bench.peak) json["peak"] = peak_json(*run.bench.peak);
  json["kernels"] = std::move(kernels);
  return json;
}

Result<KernelRun> read_kernel_run(const ordered_json& json, const std::string& label) {
  KernelRun run;
  US_ASSIGN(const JsonObject top, JsonObject::of(json, label));
  US_ASSIGN(run.made_by, read_provenance(top));
  US_ASSIGN(run.config, top.text("config"));
  US_ASSIGN(run.num_ranks, top.small_number("ranks"));
  US_ASSIGN(run.rank, top.small_number("rank"));
  US_ASSIGN(run.width, top.small_number("width"));
  US_ASSIGN(run.rows, top.small_number("rows"));
  US_ASSIGN(run.live_experts, top.small_number("live_experts"));
  US_ASSIGN(const JsonObject gpu, top.object("gpu"));
  US_ASSIGN(run.bench.gpu, read_gpu(gpu));
  US_ASSIGN(const JsonObject ceiling, top.object("ceiling"));
  US_ASSIGN(run.bench.ceiling_bytes, ceiling.number("bytes"));
  if (run.bench.ceiling_bytes == 0) {
    return ceiling.error("bytes", "expected more than 0");
  }
  US_ASSIGN(run.bench.ceiling_us, ceiling.samples("us"));
  if (top.has("peak")) {
    US_ASSIGN(const JsonObject peak, top.object("peak"));
    US_ASSIGN(run.bench.peak, read_peak(peak));
  }
  US_ASSIGN(const auto kernels, top.objects("kernels"));
  for (const JsonObject& kernel : kernels) {
    US_ASSIGN(KernelSamples samples, read_kernel(kernel));
    run.bench.kernels.push_back(std::move(samples));
  }
  return run;
}

}  // namespace ultraspeed::apps
