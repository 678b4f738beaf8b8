#include "apps/measured_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "apps/bench_result.h"
#include "apps/decode_run.h"
#include "apps/json_object.h"
#include "apps/kernel_run.h"
#include "apps/step_run.h"
#include "plan/devices.h"

namespace ultraspeed::apps {
namespace {

using plan::Estimate;

// "NVIDIA H100 80GB HBM3" is an h100.
Result<std::string> device_of(const std::string& gpu, const std::string& label) {
  std::string lower = gpu;
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string known;
  for (const plan::Device& device : plan::devices()) {
    if (lower.find(device.name) != std::string::npos) return device.name;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", device.name);
  }
  return make_error(ErrorCode::kInvalidData, "{}: gpu.name: expected one of {}, found '{}'", label,
                    known, gpu);
}

Result<MeasuredTimes> of_gpu(const cuda::MeasuredGpu& gpu, const std::string& label) {
  MeasuredTimes times;
  times.label = label;
  times.gpu = gpu.gpu.name;
  US_ASSIGN(times.device, device_of(gpu.gpu.name, label));
  const auto [least, most] = std::ranges::minmax(gpu.ceiling_us);
  const auto rate = [&gpu](double us) { return 1e6 * static_cast<double>(gpu.ceiling_bytes) / us; };
  times.bandwidth = {rate(most), rate(spread_of(gpu.ceiling_us).median), rate(least)};
  return times;
}

// Means of an operation's stages.
void add_stage_times(const StepRun& run, MeasuredTimes* times) {
  std::array<Estimate, program::kNumOpcodes> sums;
  std::array<double, program::kNumOpcodes> counts = {};
  for (const cuda::StageSamples& stage : run.bench.stages) {
    const auto opcode = static_cast<size_t>(stage.opcode);
    const double reading = 1e6 * static_cast<double>(stage.bytes) / times->bandwidth->likely;
    const Spread us = spread_of(stage.us);
    const auto beyond = [&](double of) { return stage.count * std::max(0.0, of - reading); };
    sums[opcode].least += beyond(us.p10);
    sums[opcode].likely += beyond(us.median);
    sums[opcode].most += beyond(us.p90);
    counts[opcode] += stage.count;
  }
  for (size_t i = 0; i < program::kNumOpcodes; ++i) {
    if (counts[i] == 0) continue;
    times->stage_us[i] = sums[i].times(Estimate::exactly(1 / counts[i]));
  }
}

Result<MeasuredTimes> of_step(const nlohmann::ordered_json& json, const std::string& label) {
  US_ASSIGN(const StepRun run, read_step_run(json, label));
  if (run.all_reduce_ns != 0) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: all_reduce_ns: measured with {} ns of delay of other ranks; expected a "
                      "run of 'bench step' without --all-reduce-us",
                      label, run.all_reduce_ns);
  }
  for (const cuda::StageSamples& stage : run.bench.stages) {
    if (stage.general_reason.empty()) continue;
    return make_error(ErrorCode::kUnsupported,
                      "{}: {} ran as a general loop ({}), whose time is not that of its bytes; "
                      "expected a step of kernels alone",
                      label, stage.name, stage.general_reason);
  }
  US_ASSIGN(MeasuredTimes times, of_gpu(run.bench, label));
  add_stage_times(run, &times);
  const Spread us = spread_of(run.bench.step_us);
  const double sum = step_figures(run).sum_us;
  times.in_step = {us.p10 / sum, us.median / sum, us.p90 / sum};
  return times;
}

Result<MeasuredTimes> of_kernels(const nlohmann::ordered_json& json, const std::string& label) {
  US_ASSIGN(const KernelRun run, read_kernel_run(json, label));
  return of_gpu(run.bench, label);
}

Result<MeasuredTimes> of_decode(const nlohmann::ordered_json& json, const JsonObject& top,
                                const std::string& label) {
  MeasuredTimes times;
  times.label = label;
  US_ASSIGN(const nlohmann::ordered_json figures, compute_decode_figures(json, label));
  for (const auto& result : figures["results"]) {
    const auto length = result["accepted_length"].get<double>();
    if (length > 1) times.accepted_lengths.push_back(length);
  }
  if (!times.accepted_lengths.empty()) return times;
  return top.error("results", "expected a drafter of which more than a token a cycle is accepted");
}

}  // namespace

Result<MeasuredTimes> read_measured_times(const nlohmann::ordered_json& json,
                                          const std::string& label) {
  US_ASSIGN(const JsonObject top, JsonObject::of(json, label));
  US_ASSIGN(const std::string schema, top.text("schema"));
  if (schema == kStepRunSchema) return of_step(json, label);
  if (schema == kKernelRunSchema) return of_kernels(json, label);
  if (schema == kDecodeRunSchema) return of_decode(json, top, label);
  return top.error("schema", fmt::format("expected {}, {} or {}, found '{}'", kStepRunSchema,
                                         kKernelRunSchema, kDecodeRunSchema, schema));
}

void use_measured(const MeasuredTimes& measured, plan::DeviceTimes* times) {
  if (measured.bandwidth) times->times.bandwidth = *measured.bandwidth;
  if (measured.in_step) times->times.in_step = *measured.in_step;
  for (size_t i = 0; i < program::kNumOpcodes; ++i) {
    if (measured.stage_us[i]) times->times.stage_us[i] = *measured.stage_us[i];
  }
  const auto gate_up = static_cast<size_t>(program::Opcode::kExpertGateUp);
  if (measured.stage_us[gate_up]) times->times.mxfp4_share = plan::Estimate::exactly(1);
  times->gpu_source += fmt::format("; {} ({})", measured.label, measured.gpu);
}

}  // namespace ultraspeed::apps
