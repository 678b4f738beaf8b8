#include "cuda/bench/step_program.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <variant>

#include "program/access.h"
#include "program/route_table.h"

namespace ultraspeed::cuda {
namespace {

using program::BufferDecl;
using program::BufferId;
using program::Program;
using program::Stage;
using program::WeightId;

uint64_t align_buffer(uint64_t bytes) {
  constexpr uint64_t kAlignment = 64;
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// What the stage writes and other ranks write another part of.
BufferId shared_output(const program::Operands& operands) {
  if (const auto* embed = std::get_if<program::EmbedOperands>(&operands)) return embed->hidden;
  if (const auto* out = std::get_if<program::OutProjOperands>(&operands)) return out->partials;
  if (const auto* down = std::get_if<program::ExpertDownOperands>(&operands)) return down->partials;
  if (const auto* reduce = std::get_if<program::ReduceOperands>(&operands)) return reduce->output;
  const auto* linear = std::get_if<program::LinearOperands>(&operands);
  const bool is_shared = linear != nullptr && linear->total_rows != linear->rows;
  return is_shared ? linear->output : program::kNoId;
}

// Two places for all buffers of a size: a residual is read while the next one is written.
void set_shared_outputs_apart(Program* program) {
  struct Places {
    uint64_t begin = 0;
    uint32_t num_buffers = 0;
  };
  constexpr uint32_t kPlaces = 2;
  std::map<uint64_t, Places> by_size;
  for (const Stage& stage : program->stages) {
    const BufferId id = shared_output(stage.operands);
    if (id == program::kNoId) continue;
    BufferDecl& buffer = program->buffers[id];
    const uint64_t size_bytes = align_buffer(buffer.size_bytes);
    const auto [found, is_new] = by_size.try_emplace(size_bytes);
    Places& places = found->second;
    if (is_new) {
      places.begin = program->arena_bytes;
      program->arena_bytes += kPlaces * size_bytes;
    }
    buffer.offset_bytes = places.begin + places.num_buffers++ % kPlaces * size_bytes;
  }
}

BufferId add_table(uint32_t max_slots, uint32_t max_pairs, Program* program) {
  BufferDecl buffer;
  buffer.name = "prepared_route_table";
  buffer.extent = 1;
  buffer.size_bytes = program::RouteTable::words(max_slots, max_pairs) * sizeof(uint32_t);
  buffer.offset_bytes = program->arena_bytes;
  program->arena_bytes += align_buffer(buffer.size_bytes);
  program->buffers.push_back(std::move(buffer));
  return static_cast<BufferId>(program->buffers.size() - 1);
}

// Matrices that a stage reads, as "rows x columns" of the largest; without what fills up pages.
struct StageReads {
  uint64_t bytes = 0;
  std::string shape;
};

StageReads weight_reads(const Program& program, const Stage& stage, const StepShape& shape) {
  StageReads reads;
  uint64_t largest = 0;
  const bool is_table = std::holds_alternative<program::EmbedOperands>(stage.operands);
  for (const WeightId id : program::stage_references(stage.operands).weights) {
    const program::WeightDecl& decl = program.weights[id];
    uint64_t bytes = decl.matrix_bytes();
    std::string what = fmt::format("{} x {}", decl.rows, decl.cols);
    if (is_table && decl.rows > 1) {
      bytes = shape.rows * tensor::packed_bytes(decl.format, 1, decl.cols);
      what = fmt::format("{} rows of {}", shape.rows, decl.cols);
    } else if (decl.count > 1) {
      bytes *= shape.live_experts;
      what = fmt::format("{} live of {}", shape.live_experts, what);
    }
    reads.bytes += bytes;
    if (decl.rows > 1 && bytes > largest) {
      largest = bytes;
      reads.shape = std::move(what);
    }
  }
  return reads;
}

// The stage that reads the cache for this one, nullptr if there is none: itself, or for the merge
// of a cache of tiles, which reads them then, Attention.
const program::AttentionOperands* cache_reader(const Program& program, const StepForms& forms,
                                               const Stage& stage) {
  const auto merges = [&](const program::AttentionOperands& op) {
    return op.num_splits > 1 && op.cache != program::kNoId &&
           forms.caches[op.cache] != CacheForm::kRows;
  };
  if (const auto* op = std::get_if<program::AttentionOperands>(&stage.operands)) {
    return op->cache == program::kNoId || merges(*op) ? nullptr : op;
  }
  const auto* merge = std::get_if<program::AttentionMergeOperands>(&stage.operands);
  if (merge == nullptr) return nullptr;
  for (const Stage& other : program.stages) {
    const auto* op = std::get_if<program::AttentionOperands>(&other.operands);
    if (op != nullptr && op->output == merge->partials) return merges(*op) ? op : nullptr;
  }
  return nullptr;
}

StageReads stage_reads(const Program& program, const StepForms& forms, const Stage& stage,
                       const StepShape& shape) {
  StageReads reads = weight_reads(program, stage, shape);
  const program::AttentionOperands* op = cache_reader(program, forms, stage);
  if (op == nullptr) return reads;
  // All columns together see from the first one's window on.
  uint32_t end = shape.positions + shape.rows;
  const uint32_t before = shape.positions + 1;
  uint32_t begin = op->window != 0 && op->window < before ? before - op->window : 0;
  reads.shape = fmt::format("{} q heads, {} kv heads, {} positions", op->num_q_heads,
                            op->num_kv_heads, end - begin);
  uint64_t position_bytes = program.caches[op->cache].position_bytes();
  if (forms.caches[op->cache] != CacheForm::kRows) {
    const bool is_bf16 = forms.caches[op->cache] == CacheForm::kBf16Tiles;
    position_bytes = position_bytes / sizeof(float) * (is_bf16 ? 2 : 1);
    begin = begin / kKvTilePositions * kKvTilePositions;
    end = (end + kKvTilePositions - 1) / kKvTilePositions * kKvTilePositions;
  }
  reads.bytes += (end - begin) * position_bytes;
  return reads;
}

std::string group_name(const std::string& stage) {
  std::string name = stage.substr(stage.rfind('.') + 1);
  for (const char* part : {"draft.", "context."}) {  // plan/lower_draft.cc
    if (stage.starts_with(part)) return part + name;
  }
  return name;
}

std::set<uint32_t> stages_of_rank(const Program& program, uint32_t rank) {
  std::set<uint32_t> stages;
  for (uint32_t worker = 0; worker < program.num_workers; ++worker) {
    for (const program::Task& task : program.list(rank, worker)) stages.insert(task.stage);
  }
  return stages;
}

}  // namespace

StepProgram prepare_step(Program program, bool has_own_routes) {
  StepProgram step;
  if (program.num_ranks > 1) set_shared_outputs_apart(&program);
  std::map<BufferId, BufferId> prepared;  // by the table that Route writes
  for (Stage& stage : program.stages) {
    if (auto* up = std::get_if<program::ExpertGateUpOperands>(&stage.operands)) {
      const BufferId table = add_table(up->max_slots, up->max_pairs, &program);
      prepared[up->route] = table;
      up->route = table;
      step.routes.push_back(
          {table, up->weight, up->max_slots, up->max_pairs, up->max_pairs / program.width});
    } else if (auto* down = std::get_if<program::ExpertDownOperands>(&stage.operands)) {
      down->route = prepared.at(down->route);
    }
  }
  for (Stage& stage : program.stages) {
    auto* route = std::get_if<program::RouteOperands>(&stage.operands);
    if (route == nullptr || !has_own_routes) continue;
    if (const auto table = prepared.find(route->route); table != prepared.end()) {
      route->route = table->second;
    }
  }
  step.program = std::move(program);
  return step;
}

std::vector<StageGroup> group_stages(const Program& program, const StepForms& forms, uint32_t rank,
                                     const StepShape& shape) {
  std::vector<StageGroup> groups;
  for (const uint32_t index : stages_of_rank(program, rank)) {
    const Stage& stage = program.stages[index];
    const std::string name = group_name(stage.name);
    StageReads reads = stage_reads(program, forms, stage, shape);
    const auto is_alike = [&](const StageGroup& group) {
      return program.stages[group.stages[0]].opcode() == stage.opcode() && group.name == name &&
             group.shape == reads.shape && group.bytes == reads.bytes;
    };
    auto group = std::ranges::find_if(groups, is_alike);
    if (group == groups.end()) {
      groups.push_back({name, std::move(reads.shape), {}, reads.bytes});
      group = groups.end() - 1;
    }
    group->stages.push_back(index);
  }
  return groups;
}

}  // namespace ultraspeed::cuda
