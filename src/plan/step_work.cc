#include "plan/step_work.h"

#include <algorithm>
#include <array>
#include <optional>

#include "plan/accounting.h"
#include "program/access.h"

namespace ultraspeed::plan {
namespace {

using model::TensorRole;
using program::Opcode;
using program::Program;
using program::Task;

StepPart part_of(const Plan& plan, const program::Stage& stage) {
  if (stage.is_drafters) return StepPart::kDrafter;
  switch (stage.opcode()) {
    case Opcode::kQkvProj:
    case Opcode::kOutProj:
    case Opcode::kGateUp:
    case Opcode::kRoute:
    case Opcode::kExpertGateUp:
    case Opcode::kExpertDown:
      return StepPart::kWeights;
    case Opcode::kLinear: {
      const auto& linear = std::get<program::LinearOperands>(stage.operands);
      return plan.sources[linear.weight].role == TensorRole::kLmHead ? StepPart::kEnds
                                                                     : StepPart::kWeights;
    }
    case Opcode::kReduce:
      return StepPart::kAllReduce;
    case Opcode::kAttention:
    case Opcode::kAttentionMerge:
      return StepPart::kAttention;
    case Opcode::kEmbed:
    case Opcode::kSample:
    case Opcode::kNominate:
    case Opcode::kPropose:
    case Opcode::kAccept:
    case Opcode::kFollow:
      return StepPart::kEnds;
  }
  return StepPart::kWeights;
}

// Bytes between a rank and others.
struct Traffic {
  double sent = 0, received = 0;

  double most() const { return std::max(sent, received); }
};

// What one rank does of each stage.
struct RankWork {
  explicit RankWork(size_t num_stages)
      : weights(num_stages), experts(num_stages), always(num_stages), on_demand(num_stages) {}

  std::vector<double> weights, experts;    // [stage], bytes
  std::vector<Traffic> always, on_demand;  // [stage]
};

class Collector {
 public:
  Collector(const Plan& plan, const StepOptions& options)
      : plan_(plan),
        program_(plan.program),
        options_(options),
        ranks_(program_.num_ranks, RankWork(program_.stages.size())),
        is_streamed_(program_.weights.size(), false) {}

  std::vector<StageWork> run() {
    for (uint32_t rank = 0; rank < program_.num_ranks; ++rank) {
      for (uint32_t worker = 0; worker < program_.num_workers; ++worker) {
        for (const Task& task : program_.list(rank, worker)) {
          stream(rank, task);
          push(rank, task);
        }
      }
    }
    gather();
    std::vector<StageWork> stages;
    for (size_t stage = 0; stage < program_.stages.size(); ++stage) stages.push_back(work(stage));
    return stages;
  }

 private:
  void stream(uint32_t rank, const Task& task) {
    const program::WeightRows unit = program::task_weight_rows(program_, task);
    if (unit.weight == program::kNoId) return;
    is_streamed_[unit.weight] = true;
    const program::WeightDecl& weight = program_.weights[unit.weight];
    const double bytes =
        static_cast<double>(program::task_max_units(program_, task)) *
        static_cast<double>(tensor::packed_bytes(weight.format, unit.rows, weight.cols));
    RankWork& of_rank = ranks_[rank];
    if (task.opcode == Opcode::kExpertGateUp || task.opcode == Opcode::kExpertDown) {
      of_rank.experts[task.stage] += bytes / max_slots(program_, task);
    } else {
      of_rank.weights[task.stage] += bytes;
    }
  }

  // What other ranks wait for.
  void push(uint32_t rank, const Task& task) {
    if (task.signal.scope == program::SignalScope::kLocal) return;
    program::task_accesses(program_, rank, task, &accesses_);
    for (const program::Access& access : accesses_) {
      if (!access.is_write || access.rank == rank) continue;
      const program::BufferDecl& buffer = program_.buffers[access.buffer];
      const double bytes =
          static_cast<double>(buffer.size_bytes) * (access.end - access.begin) / buffer.extent;
      const auto traffic = access.on_demand ? &RankWork::on_demand : &RankWork::always;
      (ranks_[rank].*traffic)[task.stage].sent += bytes;
      (ranks_[access.rank].*traffic)[task.stage].received += bytes;
    }
  }

  // Weights that no task streams are read by the first stage that names them, then from the cache.
  void gather() {
    std::vector<bool> is_read = is_streamed_;
    for (size_t stage = 0; stage < program_.stages.size(); ++stage) {
      const auto named = program::stage_references(program_.stages[stage].operands).weights;
      for (const program::WeightId id : named) {
        if (is_read[id]) continue;
        is_read[id] = true;
        for (uint32_t rank = 0; rank < program_.num_ranks; ++rank) {
          if (!program::has_share(rank, program_.weights[id].rank_stride)) continue;
          ranks_[rank].weights[stage] += static_cast<double>(gathered_bytes(plan_, id));
        }
      }
    }
  }

  StageWork work(size_t stage) const {
    const program::Stage& of = program_.stages[stage];
    StageWork work;
    work.opcode = of.opcode();
    work.part = part_of(plan_, of);
    for (const RankWork& rank : ranks_) {
      work.weights = std::max(work.weights, rank.weights[stage]);
      work.per_live_expert = std::max(work.per_live_expert, rank.experts[stage]);
      work.link = std::max(work.link, rank.always[stage].most());
      work.on_demand_link = std::max(work.on_demand_link, rank.on_demand[stage].most());
    }
    work.crosses_ranks = work.link > 0;
    if (const auto* up = std::get_if<program::ExpertGateUpOperands>(&of.operands)) {
      const program::WeightDecl& weight = program_.weights[up->weight];
      work.is_mxfp4_gate_up = weight.format == tensor::WeightFormat::kMxfp4;
    }
    if (const auto* attention = std::get_if<program::AttentionOperands>(&of.operands)) {
      const double bytes = options_.kv_format == KvFormat::kFp8 ? 1 : 2;
      work.kv =
          bytes * static_cast<double>(kv_elements_read(program_, *attention, options_.context));
    }
    return work;
  }

  const Plan& plan_;
  const Program& program_;
  const StepOptions& options_;
  std::vector<RankWork> ranks_;
  std::vector<bool> is_streamed_;  // [weight]
  std::vector<program::Access> accesses_;
};

uint64_t memory_bytes(const Plan& plan, const StepOptions& options) {
  const Program& program = plan.program;
  uint64_t bytes =
      block_padding_bytes(plan) + program.arena_bytes + task_list_bytes(program) + kReservedBytes;
  for (const GroupBytes& group : weight_bytes(plan, 0)) bytes += group.stored;
  const KvElements kv = kv_elements(program, 0, options.context);
  return bytes + (options.kv_format == KvFormat::kFp8 ? 1 : 2) * (kv.pages + kv.rings);
}

}  // namespace

std::string_view step_part_name(StepPart part) {
  constexpr std::array<std::string_view, kNumStepParts> kNames = {
      "weights", "hand-offs", "all-reduce", "attention, KV", "head, sampling", "drafter"};
  return kNames.at(static_cast<size_t>(part));
}

double StepWork::bytes_at(double live_experts) const {
  double bytes = 0;
  for (const StageWork& stage : stages) {
    bytes += stage.weights + live_experts * stage.per_live_expert + stage.kv;
  }
  return bytes;
}

Result<StepWork> plan_step(const model::ModelConfig& config, const model::DrafterConfig* drafter,
                           const Device& device, const StepOptions& options) {
  StepWork step;
  step.options = options;
  US_ASSIGN(step.options.context, context_or_default(config, options.context));
  step.has_drafter = drafter != nullptr;
  PlanOptions how;
  how.width = options.width;
  how.num_ranks = options.num_ranks;
  how.all_reduce = options.all_reduce;
  how.logits = options.logits;
  how.max_context = step.options.context;
  how.drafter = drafter;
  how.is_drafting = step.has_drafter;
  std::optional<model::ModelConfig> drafter_stack;
  if (drafter != nullptr) drafter_stack = drafter->stack();
  const auto shape_of = [&](const model::WeightSource& source) -> Result<model::WeightShape> {
    if (source.stack == model::Stack::kDflash) {
      return model::expected_shape(*drafter_stack, source);
    }
    US_ASSIGN(const model::WeightShape stored, model::expected_shape(config, source));
    return model::loaded_shape(config, source, stored, options.dense_dtype);
  };
  US_ASSIGN(const Plan plan, make_plan(config, shape_of, device.limits, how));
  step.stages = Collector(plan, step.options).run();
  step.memory_bytes = memory_bytes(plan, step.options);
  if (config.num_experts > 0) {
    const uint32_t chosen = config.num_experts_per_token;
    step.max_live_experts = std::min(config.num_experts, options.width * chosen);
    step.expected_live_experts = expected_live_experts(config.num_experts, chosen, options.width);
  }
  return step;
}

}  // namespace ultraspeed::plan
