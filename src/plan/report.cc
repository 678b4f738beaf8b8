#include "plan/report.h"

#include <chrono>
#include <cmath>
#include <numeric>

#include "plan/accounting.h"
#include "plan/draft.h"
#include "program/verify.h"

namespace ultraspeed::plan {
namespace {

using model::DrafterConfig;
using model::ModelConfig;
using model::TensorRole;

// qkv, attention, o_proj and its sum, gate/up, down and its sum; the sums follow on the same worker
// with one rank.
constexpr uint32_t drafter_layer_hops(uint32_t num_ranks) {
  return num_ranks > 1 ? 7 : 5;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

ShapeLookup shape_lookup(const ModelConfig& config, DenseFormat dense_format) {
  return [&config, dense_format](const model::WeightSource& source) {
    const bool requantised =
        dense_format == DenseFormat::kFp8 &&
        (source.role == TensorRole::kOProj || source.role == TensorRole::kLmHead ||
         source.role == TensorRole::kRouter);
    return requantised ? model::weight_shape(config, source, tensor::WeightFormat::kFp8Block128)
                       : model::expected_shape(config, source);
  };
}

// Plans and verifies; fills report->program except for the drafter's hops.
Result<Plan> plan_and_verify(PlanReport* report) {
  PlanOptions options;
  options.width = report->options.width;
  options.num_ranks = report->options.num_ranks;
  options.max_context = report->options.context;
  ProgramCounts& counts = report->program;

  auto begin = std::chrono::steady_clock::now();
  US_ASSIGN(Plan plan,
            make_plan(report->config, shape_lookup(report->config, report->options.dense_format),
                      report->device.limits, options));
  counts.plan_seconds = seconds_since(begin);
  begin = std::chrono::steady_clock::now();
  US_ASSIGN(const program::VerifyReport verified, program::verify(plan.program));
  counts.verify_seconds = seconds_since(begin);

  counts.num_tasks = verified.num_tasks;
  counts.num_waits = verified.num_waits;
  counts.num_cross_rank_signals = verified.num_cross_rank_signals;
  counts.critical_path_hops = verified.critical_path_hops;
  counts.num_counters = plan.program.num_counters;
  counts.num_flags = plan.program.num_flags;
  counts.num_stages = static_cast<uint32_t>(plan.program.stages.size());
  counts.hops_per_layer = hops_per_layer(plan.program, report->config.num_layers());
  return plan;
}

void add_experts(PlanReport* report) {
  const ModelConfig& config = report->config;
  for (const model::LayerConfig& layer : config.layers) report->num_expert_layers += layer.is_moe;
  if (!report->has_experts()) return;
  const uint32_t width = report->options.width;
  report->max_live_experts = std::min(config.num_experts, width * config.num_experts_per_token);
  report->expected_live_experts =
      expected_live_experts(config.num_experts, config.num_experts_per_token, width);
}

void add_weights(const Plan& plan, PlanReport* report) {
  report->groups = weight_bytes(plan, 0);
  for (const GroupBytes& group : report->groups) report->memory.weights += group.stored;
  report->memory.block_padding = block_padding_bytes(plan);
  const auto experts = static_cast<size_t>(WeightGroup::kExperts);
  for (uint32_t rank = 0; rank < report->options.num_ranks; ++rank) {
    CycleBytes read;
    const auto groups = weight_bytes(plan, rank);
    for (const GroupBytes& group : groups) read.non_expert += group.read;
    read.per_live_expert = groups[experts].read;
    read.non_expert -= read.per_live_expert;
    if (rank == 0) report->cycle = read;
    report->node.non_expert += read.non_expert;
    report->node.per_live_expert += read.per_live_expert;
  }
}

void add_kv(const program::Program& program, PlanReport* report) {
  const uint64_t bytes = report->options.kv_format == KvFormat::kFp8 ? 1 : 2;
  const uint32_t context = report->options.context;
  const KvElements elements = kv_elements(program, 0, context);
  report->memory.kv_pages = bytes * elements.pages;
  report->memory.kv_rings = bytes * elements.rings;
  report->cycle.kv = bytes * elements.read;
  for (uint32_t rank = 0; rank < program.num_ranks; ++rank) {
    report->node.kv += bytes * kv_elements(program, rank, context).read;
  }
}

void add_buffers(const program::Program& program, PlanReport* report) {
  report->memory.activations = program.arena_bytes;
  report->memory.task_lists = task_list_bytes(program);
  report->memory.reserved = kReservedBytes;
}

// BF16, split evenly over the ranks; its context keys and values are BF16 too.
void add_drafter(const DrafterConfig& drafter, PlanReport* report) {
  const uint32_t ranks = report->options.num_ranks;
  uint64_t positions = 0;  // of context, of all layers
  for (const DrafterConfig::Layer& layer : drafter.layers) {
    const uint32_t window = layer.sliding_window;
    positions += window > 0 ? std::min(window, report->options.context) : report->options.context;
  }
  const uint64_t block_positions = uint64_t{drafter.num_layers} * drafter.block_size;
  const uint64_t position_bytes = uint64_t{std::max(drafter.num_kv_heads / ranks, 1U)} *
                                  (drafter.head_dim + drafter.v_head_dim) * 2;
  report->has_drafter = true;
  report->memory.drafter_weights = (2 * model::count_parameters(drafter) + ranks - 1) / ranks;
  report->memory.drafter_kv = position_bytes * (positions + block_positions);
  report->cycle.drafter = report->memory.drafter_weights + position_bytes * positions;
  report->cycle.drafter_head = report->group(WeightGroup::kHead).read;
  report->node.drafter = ranks * report->cycle.drafter;
  report->node.drafter_head = ranks * report->cycle.drafter_head;  // every rank has rows of it

  const ProgramCounts& counts = report->program;
  const uint32_t in_layers =
      std::accumulate(counts.hops_per_layer.begin(), counts.hops_per_layer.end(), 0U);
  report->program.drafter_hops =
      drafter.num_layers * drafter_layer_hops(ranks) + counts.critical_path_hops - in_layers;
}

}  // namespace

std::string_view weight_group_name(WeightGroup group) {
  constexpr std::array<std::string_view, kNumWeightGroups> kNames = {
      "qkv", "o_proj", "router", "experts", "dense", "head", "embedding", "norms"};
  return kNames.at(static_cast<size_t>(group));
}

Result<PlanReport> make_report(const ModelConfig& config, const DrafterConfig* drafter,
                               const Device& device, const ReportOptions& options) {
  PlanReport report;
  report.options = options;
  US_ASSIGN(report.options.context, context_or_default(config, options.context));
  report.device = device;
  report.config = config;
  report.parameters = model::count_parameters(config);
  US_ASSIGN(const Plan plan, plan_and_verify(&report));
  if (drafter != nullptr) US_TRY(check_drafter(config, *drafter));
  add_experts(&report);
  add_weights(plan, &report);
  add_kv(plan.program, &report);
  add_buffers(plan.program, &report);
  if (drafter != nullptr) add_drafter(*drafter, &report);
  return report;
}

Result<uint32_t> context_or_default(const ModelConfig& config, uint32_t context) {
  const uint32_t limit = config.max_position_embeddings;
  if (context == 0) return std::min(kDefaultContext, limit);
  if (context <= limit) return context;
  return make_error(ErrorCode::kInvalidArgument, "--context {}: {} has max_position_embeddings {}",
                    context, config.file, limit);
}

double expected_live_experts(uint32_t num_experts, uint32_t num_per_token, uint32_t width) {
  const double missed = 1.0 - static_cast<double>(num_per_token) / num_experts;
  return num_experts * (1.0 - std::pow(missed, width));
}

std::vector<double> live_expert_cases(const PlanReport& report) {
  if (!report.has_experts()) return {0.0};
  std::vector<double> cases;
  for (const double live : {30.0, 40.0, 50.0, 60.0}) {
    if (live <= report.max_live_experts) cases.push_back(live);
  }
  cases.push_back(report.expected_live_experts);
  return cases;
}

double cycle_seconds(const PlanReport& report, double live_experts, double us_per_hop) {
  const double hops = report.program.critical_path_hops + report.program.drafter_hops;
  return report.cycle.at(live_experts) / report.device.streaming_bandwidth() +
         us_per_hop * 1e-6 * hops;
}

}  // namespace ultraspeed::plan
