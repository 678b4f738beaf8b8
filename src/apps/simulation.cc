#include "apps/simulation.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;
using plan::Bar;

std::string shown_ms(double us) {
  return fmt::format("{:.2f}", us / 1000);
}

std::vector<std::string> shape_cells(const SimulationRun& run, const SimulatedStep& step) {
  return {run.devices[step.device].device.name,
          fmt::format("{}{}", step.options.num_ranks, run.fits(step) ? "" : " *"),
          fmt::format("{}", step.options.width)};
}

ordered_json estimate_json(const plan::Estimate& estimate) {
  return {{"least", estimate.least}, {"likely", estimate.likely}, {"most", estimate.most}};
}

ordered_json bar_json(const Bar& bar) {
  return {{"low", bar.low}, {"mean", bar.mean}, {"high", bar.high}};
}

ordered_json figures_json(const SimulatedDevice& device) {
  const plan::NodeTimes<plan::Estimate>& times = device.times.times;
  ordered_json stages;
  for (size_t i = 0; i < program::kNumOpcodes; ++i) {
    const auto opcode = static_cast<program::Opcode>(i);
    stages[std::string(program::opcode_name(opcode))] = estimate_json(times.of(opcode));
  }
  return {{"name", device.device.name},
          {"gpu_source", device.times.gpu_source},
          {"link_source", device.times.link_source},
          {"bandwidth", estimate_json(times.bandwidth)},
          {"kv_bandwidth", estimate_json(times.kv_bandwidth)},
          {"mxfp4_share", estimate_json(times.mxfp4_share)},
          {"stage_us", std::move(stages)},
          {"in_step", estimate_json(times.in_step)},
          {"correction", estimate_json(times.correction)},
          {"hop_us", estimate_json(times.hop_us)},
          {"link_bandwidth", estimate_json(times.link_bandwidth)},
          {"late_us", estimate_json(times.late_us)},
          {"delay_share", estimate_json(times.delay_share)}};
}

ordered_json step_result_json(const SimulationRun& run, const SimulatedStep& step) {
  ordered_json parts, rates = ordered_json::array();
  for (size_t i = 0; i < plan::kNumStepParts; ++i) {
    const auto part = static_cast<plan::StepPart>(i);
    parts[std::string(plan::step_part_name(part))] = bar_json(step.simulation.parts[i]);
  }
  for (const double accepted : step.accepted_lengths) {
    rates.push_back({{"accepted_length", accepted},
                     {"tokens_per_second", bar_json(step.simulation.tokens_per_second(accepted))}});
  }
  return {{"device", run.devices[step.device].device.name},
          {"ranks", step.options.num_ranks},
          {"width", step.options.width},
          {"drafter", step.has_drafter},
          {"live_experts", step.live_experts},
          {"memory_bytes_per_gpu", step.memory_bytes},
          {"fits", run.fits(step)},
          {"floor_us", step.simulation.floor_us},
          {"step_us", bar_json(step.simulation.step_us)},
          {"parts_us", std::move(parts)},
          {"rates", std::move(rates)}};
}

}  // namespace

TextTable part_table(const SimulationRun& run) {
  TextTable table;
  table.head = {"device", "ranks", "width", "floor"};
  for (size_t i = 0; i < plan::kNumStepParts; ++i) {
    table.head.emplace_back(plan::step_part_name(static_cast<plan::StepPart>(i)));
  }
  table.head.insert(table.head.end(), {"step, ms", "5 to 95 %"});
  for (const SimulatedStep& step : run.steps) {
    std::vector<std::string> row = shape_cells(run, step);
    row.push_back(shown_ms(step.simulation.floor_us));
    for (const Bar& part : step.simulation.parts) row.push_back(shown_ms(part.mean));
    const Bar& us = step.simulation.step_us;
    row.push_back(shown_ms(us.mean));
    row.push_back(fmt::format("{} to {}", shown_ms(us.low), shown_ms(us.high)));
    table.rows.push_back(std::move(row));
  }
  return table;
}

TextTable rate_table(const SimulationRun& run) {
  TextTable table;
  table.head = {"device",        "ranks", "width", "live experts", "GB a GPU", "accepted",
                "tokens/second", "from",  "to"};
  for (const SimulatedStep& step : run.steps) {
    for (const double accepted : step.accepted_lengths) {
      std::vector<std::string> row = shape_cells(run, step);
      const Bar rate = step.simulation.tokens_per_second(accepted);
      row.insert(row.end(), {fmt::format("{:.1f}", step.live_experts),
                             fmt::format("{:.1f}", static_cast<double>(step.memory_bytes) / 1e9),
                             fmt::format("{:.2f}", accepted), fmt::format("{:.0f}", rate.mean),
                             fmt::format("{:.0f}", rate.low), fmt::format("{:.0f}", rate.high)});
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

std::string simulation_text(const SimulationRun& run) {
  const plan::StepOptions& options = run.steps.front().options;
  std::string text = fmt::format(
      "{}, after {} positions, KV {}, dense weights {}, all-reduce {}\n", run.config,
      options.context, options.kv_format == plan::KvFormat::kFp8 ? "FP8" : "BF16",
      model::dense_dtype_name(options.dense_dtype), plan::all_reduce_name(options.all_reduce));
  for (const SimulatedDevice& device : run.devices) {
    text += fmt::format("{}: {};\n  {}\n", device.device.name, device.times.gpu_source,
                        device.times.link_source);
  }
  text += "\nMilliseconds of a step, with a drafter of a cycle\n" + plain_table(part_table(run));
  text += "\nTokens per second of the node\n" + plain_table(rate_table(run));
  text +=
      "\nA simulation, not a measurement: no run of several GPUs stands behind it. Bars: 5 and 95 "
      "of 100\ncases drawn from the ranges of its inputs; live experts and accepted lengths are "
      "taken as given.\nfloor: all bytes at the likeliest bandwidth, and nothing else. *: does not "
      "fit into the memory.\nSee docs/scaling.md.\n";
  return text;
}

ordered_json simulation_json(const SimulationRun& run) {
  const plan::StepOptions& options = run.steps.front().options;
  ordered_json json = {{"schema", "ultraspeed-simulation/1"},
                       {"config", run.config},
                       {"context", options.context},
                       {"kv_dtype", options.kv_format == plan::KvFormat::kFp8 ? "fp8" : "bf16"},
                       {"dense_dtype", model::dense_dtype_name(options.dense_dtype)},
                       {"all_reduce", plan::all_reduce_name(options.all_reduce)},
                       {"cases", plan::kSimulatedCases}};
  json["devices"] = ordered_json::array();
  for (const SimulatedDevice& device : run.devices) json["devices"].push_back(figures_json(device));
  json["steps"] = ordered_json::array();
  for (const SimulatedStep& step : run.steps) {
    json["steps"].push_back(step_result_json(run, step));
  }
  return json;
}

}  // namespace ultraspeed::apps
