#include "plan/accounting.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "program/access.h"

namespace ultraspeed::plan {
namespace {

using model::TensorRole;
using program::Program;
using program::Task;

WeightGroup group_of(TensorRole role) {
  switch (role) {
    case TensorRole::kQkvProj:
    case TensorRole::kQkvBias:
    case TensorRole::kQProj:
    case TensorRole::kKvProj:
      return WeightGroup::kQkv;
    case TensorRole::kOProj:
    case TensorRole::kOBias:
      return WeightGroup::kOProj;
    case TensorRole::kRouter:
    case TensorRole::kRouterBias:
      return WeightGroup::kRouter;
    case TensorRole::kExpertGateUp:
    case TensorRole::kExpertGateUpBias:
    case TensorRole::kExpertDown:
    case TensorRole::kExpertDownBias:
      return WeightGroup::kExperts;
    case TensorRole::kDenseGateUp:
    case TensorRole::kDenseDown:
    case TensorRole::kFeatureProj:
    case TensorRole::kMtpProj:
    case TensorRole::kPredecessorProj:
    case TensorRole::kSuccessorProj:
    case TensorRole::kSelectorProj:
      return WeightGroup::kDense;
    case TensorRole::kLmHead:
      return WeightGroup::kHead;
    case TensorRole::kEmbedding:
    case TensorRole::kMaskEmbedding:
    case TensorRole::kPredecessorCodes:
    case TensorRole::kSuccessorCodes:
      return WeightGroup::kEmbedding;
    case TensorRole::kFinalNorm:
    case TensorRole::kInputNorm:
    case TensorRole::kPostAttentionNorm:
    case TensorRole::kAttentionSink:
    case TensorRole::kQNorm:
    case TensorRole::kKNorm:
    case TensorRole::kFeatureNorm:
    case TensorRole::kMtpEmbeddingNorm:
    case TensorRole::kMtpHiddenNorm:
    case TensorRole::kMtpFinalNorm:
      return WeightGroup::kNorms;
  }
  US_CHECK(false, "role {}", static_cast<int>(role));
  return WeightGroup::kNorms;
}

// [weight]: bytes that a rank's tasks stream; of expert weights, with every slot live.
struct Streamed {
  uint64_t bytes = 0;
  uint32_t slots = 1;
};
std::vector<Streamed> streamed_bytes(const Program& program, uint32_t rank) {
  std::vector<Streamed> streamed(program.weights.size());
  for (uint32_t worker = 0; worker < program.num_workers; ++worker) {
    for (const Task& task : program.list(rank, worker)) {
      const program::WeightRows unit = program::task_weight_rows(program, task);
      if (unit.weight == program::kNoId) continue;
      const program::WeightDecl& weight = program.weights[unit.weight];
      Streamed& sum = streamed[unit.weight];
      sum.bytes += program::task_max_units(program, task) *
                   tensor::packed_bytes(weight.format, unit.rows, weight.cols);
      sum.slots = max_slots(program, task);
    }
  }
  return streamed;
}

}  // namespace

uint32_t max_slots(const Program& program, const Task& task) {
  const program::Operands& operands = program.stages[task.stage].operands;
  if (const auto* up = std::get_if<program::ExpertGateUpOperands>(&operands)) return up->max_slots;
  if (const auto* down = std::get_if<program::ExpertDownOperands>(&operands)) {
    return down->max_slots;
  }
  return 1;
}

uint64_t gathered_bytes(const Plan& plan, program::WeightId id) {
  const program::WeightDecl& weight = plan.program.weights[id];
  const TensorRole role = plan.sources[id].role;
  if (model::is_expert_role(role)) return weight.size_bytes() / weight.count;
  if (group_of(role) != WeightGroup::kEmbedding) return weight.size_bytes();
  return plan.program.width * tensor::packed_bytes(weight.format, 1, weight.cols);
}

std::array<GroupBytes, kNumWeightGroups> weight_bytes(const Plan& plan, uint32_t rank) {
  const Program& program = plan.program;
  const std::vector<Streamed> streamed = streamed_bytes(program, rank);
  std::array<GroupBytes, kNumWeightGroups> groups;
  for (program::WeightId id = 0; id < program.weights.size(); ++id) {
    const program::WeightDecl& weight = program.weights[id];
    if (!program::has_share(rank, weight.rank_stride)) continue;
    const WeightGroup group = group_of(plan.sources[id].role);
    GroupBytes& sum = groups[static_cast<size_t>(group)];
    sum.stored += weight.size_bytes();
    sum.scales += weight.count * tensor::scale_bytes(weight.format, weight.rows, weight.cols);
    sum.read +=
        streamed[id].bytes > 0 ? streamed[id].bytes / streamed[id].slots : gathered_bytes(plan, id);
  }
  return groups;
}

uint64_t block_padding_bytes(const Plan& plan) {
  uint64_t packed = 0;
  for (const program::WeightDecl& weight : plan.program.weights) {
    if (weight.blocks_per_matrix > 0) packed += weight.size_bytes();
  }
  return plan.program.num_weight_blocks * program::kWeightBlockBytes - packed;
}

uint64_t task_list_bytes(const Program& program) {
  uint64_t bytes = (uint64_t{program.num_counters} + program.num_flags) * sizeof(uint32_t);
  for (uint32_t worker = 0; worker < program.num_workers; ++worker) {
    bytes += program.list(0, worker).size() * sizeof(Task);
  }
  return bytes;
}

uint64_t kv_elements_read(const Program& program, const program::AttentionOperands& attention,
                          uint32_t context) {
  const program::CacheDecl& cache = program.caches[attention.cache];
  const uint64_t position = uint64_t{cache.num_kv_heads} * (cache.head_dim + cache.v_head_dim);
  if (attention.window == 0) return position * context;
  // The columns' windows together; KV heads that several tiles share come from the L2 cache.
  const uint64_t window = uint64_t{attention.window} + program.width - 1;
  return position * std::min<uint64_t>(context, window);
}

KvElements kv_elements(const Program& program, uint32_t rank, uint32_t context) {
  const uint64_t page = program.kv_page_positions;
  KvElements sum;
  for (const program::Stage& stage : program.stages) {
    const auto* attention = std::get_if<program::AttentionOperands>(&stage.operands);
    if (attention == nullptr) continue;
    const program::CacheDecl& cache = program.caches[attention->cache];
    if (!program::has_share(rank, cache.rank_stride)) continue;
    const uint64_t position = uint64_t{cache.num_kv_heads} * (cache.head_dim + cache.v_head_dim);
    sum.read += kv_elements_read(program, *attention, context);
    if (cache.ring_positions > 0) {
      sum.rings += position * cache.ring_positions;
    } else {
      sum.pages += position * ((context + page - 1) / page * page);
    }
  }
  return sum;
}

namespace {

// [stage]: waits on the longest chain of dependencies to its end, counters taken by stage. Tasks
// stand in their lists in the order of the stages.
std::vector<uint32_t> stage_depths(const Program& program) {
  std::map<std::pair<program::WaitKind, uint32_t>, uint32_t> producer;  // stage
  std::vector<std::vector<std::pair<size_t, const Task*>>> by_stage(program.stages.size());
  for (size_t thread = 0; thread < program.lists.size(); ++thread) {
    for (const Task& task : program.lists[thread]) {
      by_stage[task.stage].emplace_back(thread, &task);
      const bool is_slot = task.signal.kind == program::SignalKind::kSlot;
      producer[{is_slot ? program::WaitKind::kSlot : program::WaitKind::kCounter, task.signal.id}] =
          task.stage;
    }
  }
  std::vector<uint32_t> depths(program.stages.size(), 0);
  std::vector<uint32_t> reached(program.lists.size(), 0);  // [thread]
  for (size_t stage = 0; stage < by_stage.size(); ++stage) {
    for (const auto& [thread, task] : by_stage[stage]) {
      for (const program::Wait& wait : task->waits) {
        if (wait.kind == program::WaitKind::kNone) continue;
        reached[thread] = std::max(reached[thread], depths[producer.at({wait.kind, wait.id})] + 1);
      }
      depths[stage] = std::max(depths[stage], reached[thread]);
    }
  }
  return depths;
}

}  // namespace

std::vector<uint32_t> hops_per_layer(const Program& program, uint32_t num_layers) {
  const std::vector<uint32_t> depths = stage_depths(program);
  std::vector<uint32_t> hops(num_layers, 0);
  uint32_t before = 0;
  for (uint32_t layer = 0; layer < num_layers; ++layer) {
    uint32_t end = before;
    for (size_t stage = 0; stage < depths.size(); ++stage) {
      if (program.stages[stage].layer == layer) end = std::max(end, depths[stage]);
    }
    hops[layer] = end - before;
    before = end;
  }
  return hops;
}

}  // namespace ultraspeed::plan
