// `bench kernels --json` and reading it back.
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/json_object.h"
#include "apps/kernel_run.h"

namespace ultraspeed::apps {
namespace {

using cuda::KernelBench;
using cuda::KernelSamples;
using cuda::MatrixPeak;
using nlohmann::ordered_json;

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
                       {"command", run.made_by.command}};
  add_shape(run, &json);
  add_gpu(run.bench, &json);
  if (run.bench.peak) json["peak"] = peak_json(*run.bench.peak);
  json["kernels"] = std::move(kernels);
  return json;
}

Result<KernelRun> read_kernel_run(const ordered_json& json, const std::string& label) {
  KernelRun run;
  US_ASSIGN(const JsonObject top, JsonObject::of(json, label));
  US_ASSIGN(run.made_by, read_provenance(top));
  US_ASSIGN(static_cast<BenchShape&>(run), read_shape(top));
  US_ASSIGN(static_cast<cuda::MeasuredGpu&>(run.bench), read_gpu(top));
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
