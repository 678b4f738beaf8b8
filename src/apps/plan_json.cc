// `ultraspeed plan --json`.
#include <nlohmann/json.hpp>

#include "apps/plan_output.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;
using plan::PlanReport;

ordered_json model_json(const PlanReport& report) {
  const model::ModelConfig& config = report.config;
  return {{"config", config.file},
          {"type", config.model_type},
          {"parameters", report.parameters.total},
          {"active_parameters", report.parameters.active},
          {"layers", config.num_layers()},
          {"expert_layers", report.num_expert_layers},
          {"experts", config.num_experts},
          {"experts_per_token", config.num_experts_per_token},
          {"drafter", report.has_drafter}};
}

ordered_json device_json(const plan::Device& device) {
  return {{"name", device.name},
          {"description", device.limits.name},
          {"workers", device.limits.num_workers},
          {"memory_bytes", device.limits.memory_bytes},
          {"nominal_bandwidth", device.limits.memory_bandwidth},
          {"streaming_bandwidth", device.streaming_bandwidth()},
          {"measured", device.is_measured()}};
}

ordered_json options_json(const plan::ReportOptions& options) {
  return {{"ranks", options.num_ranks},
          {"width", options.width},
          {"context", options.context},
          {"kv_dtype", options.kv_format == plan::KvFormat::kFp8 ? "fp8" : "bf16"},
          {"dense_dtype", options.dense_format == plan::DenseFormat::kFp8 ? "fp8" : "checkpoint"}};
}

ordered_json program_json(const plan::ProgramCounts& program) {
  return {{"tasks", program.num_tasks},
          {"dependencies", program.num_waits},
          {"cross_rank_signals", program.num_cross_rank_signals},
          {"counters_per_rank", program.num_counters},
          {"flags_per_rank", program.num_flags},
          {"stages", program.num_stages},
          {"critical_path_hops", program.critical_path_hops},
          {"hops_per_layer", program.hops_per_layer},
          {"drafter_hops", program.drafter_hops},
          {"plan_seconds", program.plan_seconds},
          {"verify_seconds", program.verify_seconds}};
}

ordered_json memory_json(const PlanReport& report) {
  const plan::MemoryBytes& memory = report.memory;
  ordered_json weights;
  for (size_t i = 0; i < plan::kNumWeightGroups; ++i) {
    const auto group = static_cast<plan::WeightGroup>(i);
    weights[std::string(plan::weight_group_name(group))] = report.group(group).stored;
  }
  return {{"weights", weights},
          {"weights_total", memory.weights},
          {"block_padding", memory.block_padding},
          {"activations", memory.activations},
          {"task_lists", memory.task_lists},
          {"kv_pages", memory.kv_pages},
          {"kv_rings", memory.kv_rings},
          {"drafter_weights", memory.drafter_weights},
          {"drafter_kv", memory.drafter_kv},
          {"reserved", memory.reserved},
          {"total", memory.total()},
          {"fits", report.fits()}};
}

ordered_json node_json(const plan::CycleBytes& node) {
  return {{"non_expert", node.non_expert},
          {"per_live_expert", node.per_live_expert},
          {"kv", node.kv},
          {"drafter", node.drafter},
          {"drafter_head", node.drafter_head}};
}

ordered_json cycle_json(const PlanReport& report) {
  const plan::CycleBytes& cycle = report.cycle;
  ordered_json read, scales;
  for (size_t i = 0; i < plan::kNumWeightGroups; ++i) {
    const auto group = static_cast<plan::WeightGroup>(i);
    if (group == plan::WeightGroup::kExperts) continue;
    read[std::string(plan::weight_group_name(group))] = report.group(group).read;
    scales[std::string(plan::weight_group_name(group))] = report.group(group).scales;
  }
  return {{"non_expert", cycle.non_expert},
          {"non_expert_groups", read},
          {"scales", scales},
          {"per_live_expert", cycle.per_live_expert},
          {"expected_live_experts", report.expected_live_experts},
          {"kv", cycle.kv},
          {"drafter", cycle.drafter},
          {"drafter_head", cycle.drafter_head}};
}

ordered_json predictions_json(const PlanReport& report) {
  ordered_json rows = ordered_json::array();
  for (const double live : plan::live_expert_cases(report)) {
    for (const double us_per_hop : plan::kUsPerHop) {
      const double seconds = plan::cycle_seconds(report, live, us_per_hop);
      ordered_json speeds = ordered_json::array();
      for (const double accepted : plan::kAcceptedLengths) {
        speeds.push_back(
            {{"accepted_length", accepted}, {"tokens_per_second", accepted / seconds}});
      }
      rows.push_back({{"live_experts", live},
                      {"bytes_per_gpu", report.cycle.at(live)},
                      {"us_per_hop", us_per_hop},
                      {"cycle_seconds", seconds},
                      {"speeds", speeds}});
    }
  }
  return rows;
}

}  // namespace

std::string plan_json(const PlanReport& report) {
  const ordered_json json = {{"model", model_json(report)},
                             {"device", device_json(report.device)},
                             {"options", options_json(report.options)},
                             {"program", program_json(report.program)},
                             {"memory_per_gpu", memory_json(report)},
                             {"bytes_per_cycle_and_gpu", cycle_json(report)},
                             {"bytes_per_cycle", node_json(report.node)},
                             {"predictions", predictions_json(report)}};
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace ultraspeed::apps
