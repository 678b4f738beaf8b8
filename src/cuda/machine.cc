#include "cuda/machine.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>
#include <variant>

#include "base/check.h"
#include "cuda/ops/flash_attention.h"
#include "program/step_check.h"
#include "tensor/block_scale.h"

namespace ultraspeed::cuda {

using program::Program;

namespace {

// With the scratch behind it.
uint64_t arena_floats(const Program& program, const ScratchFloats& scratch) {
  return align_scratch(program.arena_bytes / sizeof(float)) +
         std::accumulate(scratch.begin(), scratch.end(), uint64_t{0});
}

// Of inputs that are joined to one row, whose blocks are rounded together; nullptr: none.
const char* joined_limit(const Program& program, const program::Stage& stage,
                         program::Activations activations) {
  const auto* linear = std::get_if<program::LinearOperands>(&stage.operands);
  if (linear == nullptr || linear->more_inputs[0] == program::kNoId) return nullptr;
  const bool is_rounded =
      program::input_rounding(activations, program.weights[linear->weight].format) !=
      program::Rounding::kNone;
  return is_rounded && program.hidden_size % tensor::kF16BlockColumns != 0
             ? "joined inputs are rounded in blocks of 128, which divide no row here"
             : nullptr;
}

// What only the CPU executor lets ranks do.
const char* ranks_limit(const program::Stage& stage) {
  const auto* reduce = std::get_if<program::ReduceOperands>(&stage.operands);
  if (reduce != nullptr && reduce->is_own != 0) return "ranks that sum for themselves";
  const auto* sample = std::get_if<program::SampleOperands>(&stage.operands);
  const bool is_whole = sample == nullptr || sample->part == program::SamplePart::kWhole;
  return is_whole ? nullptr : "ranks that keep their shares of the logits";
}

// Errors: kUnsupported for a stage that the kernels have no room for.
Status check_limits(const Program& program, program::Activations activations) {
  for (const program::WeightDecl& weight : program.weights) {
    if (weight.rank_stride == 1) continue;
    return make_error(ErrorCode::kUnsupported,
                      "the GPU cannot run program '{}': of {} ranks only every {}th would have a "
                      "share of '{}'; take fewer ranks, or the CPU",
                      program.name, program.num_ranks, weight.rank_stride, weight.name);
  }
  for (const program::Stage& stage : program.stages) {
    const char* limit = std::visit(
        [&](const auto& operands) { return stage_limit(operands, program.width); }, stage.operands);
    if (limit == nullptr) limit = joined_limit(program, stage, activations);
    if (limit == nullptr) limit = ranks_limit(stage);
    if (limit == nullptr) continue;
    return make_error(ErrorCode::kUnsupported,
                      "the GPU cannot run '{}' of program '{}': {}; run this model on the CPU",
                      stage.name, program.name, limit);
  }
  return {};
}

}  // namespace

uint64_t weight_bytes(const Program& program, const MachineOptions& options) {
  return places_in_order(program, weight_forms({&program, 1}, options)).size_bytes;
}

uint64_t cache_bytes(std::span<const Program> programs, const program::CacheLimits& limits,
                     program::KvCacheType kv_cache) {
  const std::vector<CacheForm> forms = cache_forms(programs, kv_cache);
  uint64_t size_bytes = 0;
  for (program::CacheId id = 0; id < forms.size(); ++id) {
    size_bytes += cache_bytes(programs[0], id, forms[id], limits);
  }
  return size_bytes;
}

uint64_t arena_bytes(std::span<const Program> programs, const program::CacheLimits& limits,
                     const MachineOptions& options) {
  const std::vector<WeightForm> weights = weight_forms(programs, options);
  const std::vector<CacheForm> caches = cache_forms(programs, options.kv_cache);
  uint64_t floats = 0;
  for (const Program& program : programs) {
    const auto scratch =
        scratch_floats(program, options.activations, {weights, caches}, limits.num_sequences);
    floats = std::max(floats, arena_floats(program, scratch));
  }
  return floats * sizeof(float);
}

Status Machine::load(std::vector<Program> programs, const program::CacheLimits& limits,
                     WeightSource* weights, const MachineOptions& options) {
  US_CHECK(!programs.empty() && ranks_.empty());
  programs_ = std::move(programs);
  limits_ = limits;
  const Program& first = programs_[0];
  US_CHECK(first.num_ranks <= kMaxRanks, "{} ranks", first.num_ranks);
  US_CHECK(options.only_rank.value_or(0) < first.num_ranks, "rank {} of {}",
           options.only_rank.value_or(0), first.num_ranks);
  for (const Program& program : programs_) {
    US_CHECK(program::share_memory(program, first), "program '{}' does not fit '{}'", program.name,
             first.name);
    US_TRY(check_limits(program, options.activations));
  }
  options_ = options;
  forms_ = weight_forms(programs_, options);
  cache_forms_ = cache_forms(programs_, options.kv_cache);
  view_.num_ranks = first.num_ranks;
  view_.hidden_size = first.hidden_size;
  view_.kv_page_positions = first.kv_page_positions;
  view_.peer_delay_ns = options_.peer_delay_ns;
  ranks_.resize(first.num_ranks);
  for (uint32_t rank = first_rank(); rank < end_rank(); ++rank) US_TRY(load_rank(rank, weights));
  if (options_.only_rank) std::ranges::fill(view_.ranks, view_.ranks[*options_.only_rank]);
  for (const Program& program : programs_) US_TRY(load_program(program));
  return cuda_status(cudaDeviceSynchronize(), "loading the weights");
}

Status Machine::load_rank(uint32_t rank, WeightSource* weights) {
  RankMemory& memory = ranks_[rank];
  US_ASSIGN(memory.arena, DeviceMemory::allocate(arena_bytes(programs_, limits_, options_)));
  US_TRY(make_caches(rank));  // what has no room says so before weights are read
  US_TRY(load_weights(rank, weights));
  view_.ranks[rank] = {memory.arena.as<float>(), memory.weight_table.as<Weight>(),
                       memory.cache_table.as<Cache>()};
  // All bits set are NaNs: a read of what was not written shows in the results.
  return cuda_status(cudaMemset(memory.arena.data(), 0xff, memory.arena.size_bytes()),
                     "clearing activations");
}

Status Machine::load_weights(uint32_t rank, WeightSource* weights) {
  const Program& program = programs_[0];
  const WeightPlaces places = weights->places(program, forms_);
  RankMemory& memory = ranks_[rank];
  US_ASSIGN(memory.weights, DeviceMemory::allocate(places.size_bytes));
  US_TRY(weights->begin_rank(programs_, rank, options_.kv_cache == program::KvCacheType::kFp8));
  for (program::WeightId id = 0; id < program.weights.size(); ++id) {
    const program::WeightDecl& decl = program.weights[id];
    std::byte* data = memory.weights.data() + places.offsets[id];
    memory.weight_list.push_back(
        {data, form_bytes(program, id, forms_[id]), decl.rows, decl.cols, decl.format});
    US_TRY(weights->fill(id, forms_[id], data));
  }
  US_ASSIGN(memory.weight_table, to_device(std::span<const Weight>(memory.weight_list), "weights"));
  if (options_.kv_cache != program::KvCacheType::kFp8) return {};
  memory.kv_scales = weights->kv_scales();
  US_ASSIGN(memory.kv_scale_memory, to_device(memory.kv_scales.all(), "scales of KV caches"));
  return {};
}

Status Machine::make_caches(uint32_t rank) {
  const Program& program = programs_[0];
  RankMemory& memory = ranks_[rank];
  // All bits set are NaNs, also in tiles.
  const auto add = [](std::vector<DeviceMemory>* list, uint64_t size_bytes) -> Status {
    US_ASSIGN(DeviceMemory cache, DeviceMemory::allocate(size_bytes));
    US_TRY(cuda_status(cudaMemset(cache.data(), 0xff, size_bytes), "clearing a KV cache"));
    list->push_back(std::move(cache));
    return {};
  };
  std::vector<Cache> table;
  for (program::CacheId id = 0; id < program.caches.size(); ++id) {
    const program::CacheDecl& decl = program.caches[id];
    const uint64_t size_bytes = cache_bytes(program, id, cache_forms_[id], limits_);
    if (cache_forms_[id] == CacheForm::kRows) {
      const uint64_t row = decl.head_dim + decl.v_head_dim;
      US_TRY(add(&memory.keys, size_bytes / row * decl.head_dim));
      US_TRY(add(&memory.values, size_bytes / row * decl.v_head_dim));
      memory.tiles.emplace_back();
    } else {
      memory.keys.emplace_back();
      memory.values.emplace_back();
      US_TRY(add(&memory.tiles, size_bytes));
    }
    table.push_back(cache(rank, id));
  }
  US_ASSIGN(memory.cache_table, to_device(std::span<const Cache>(table), "KV caches"));
  return {};
}

const KvScales* Machine::kv_scales(uint32_t rank, const program::QkvProjOperands& op) const {
  if (options_.kv_cache != program::KvCacheType::kFp8) return nullptr;
  const RankMemory& memory = ranks_[rank];
  return memory.kv_scale_memory.as<const KvScales>() +
         (memory.kv_scales.of(op).data() - memory.kv_scales.all().data());
}

KvTiles Machine::tiles(uint32_t rank, program::CacheId id) const {
  US_CHECK(cache_forms_[id] != CacheForm::kRows, "cache {}", id);
  const program::CacheDecl& decl = programs_[0].caches[id];
  KvTiles tiles;
  tiles.tiles = ranks_[rank].tiles[id].data();
  tiles.num_kv_heads = decl.num_kv_heads;
  tiles.ring_positions = decl.ring_positions;
  tiles.page_positions = programs_[0].kv_page_positions;
  tiles.head_dim = decl.head_dim;
  tiles.v_head_dim = decl.v_head_dim;
  // All stages that write it have the same scales (cache_form.h).
  for (const Program& program : programs_) {
    for (const program::Stage& stage : program.stages) {
      const auto* op = std::get_if<program::QkvProjOperands>(&stage.operands);
      if (op == nullptr || op->cache != id) continue;
      tiles.scales = kv_scales(rank, *op);
      return tiles;
    }
  }
  return tiles;
}

ScratchFloats Machine::scratch_floats(const Program& program) const {
  return cuda::scratch_floats(program, options_.activations, {forms_, cache_forms_},
                              limits_.num_sequences);
}

Status Machine::load_program(const Program& program) {
  ProgramMemory memory;
  for (const program::BufferDecl& buffer : program.buffers) {
    memory.offsets.push_back(buffer.offset_bytes / sizeof(float));
  }
  uint64_t scratch = align_scratch(program.arena_bytes / sizeof(float));
  for (const uint64_t floats : scratch_floats(program)) {
    memory.offsets.push_back(scratch);
    scratch += floats;
  }
  std::vector<std::vector<RankTask>> by_stage(program.stages.size());
  for (uint32_t list = 0; list < program.lists.size(); ++list) {
    const uint32_t rank = list / program.num_workers;
    if (rank < first_rank() || rank >= end_rank()) continue;
    for (const program::Task& task : program.lists[list]) {
      by_stage[task.stage].push_back({task, rank});
    }
  }
  std::vector<RankTask> tasks;
  for (const std::vector<RankTask>& of_stage : by_stage) {
    memory.first_task.push_back(static_cast<uint32_t>(tasks.size()));
    tasks.insert(tasks.end(), of_stage.begin(), of_stage.end());
  }
  memory.first_task.push_back(static_cast<uint32_t>(tasks.size()));
  US_ASSIGN(memory.buffer_offsets, to_device(std::span<const uint64_t>(memory.offsets), "buffers"));
  US_ASSIGN(memory.tasks, to_device(std::span<const RankTask>(tasks), "tasks"));
  program_memory_.push_back(std::move(memory));
  return {};
}

Status Machine::copy_cache(const program::CacheCopy& copy, cudaStream_t stream) {
  const Program& program = programs_[0];
  program::check_copy(limits_, copy);
  // Rows [to, to + 1) * size over [from, from + 1) * size.
  const auto copy_rows = [&](const DeviceMemory& cache, uint64_t size_bytes, uint64_t from,
                             uint64_t to) {
    return cuda_status(
        cudaMemcpyAsync(cache.data() + to * size_bytes, cache.data() + from * size_bytes,
                        size_bytes, cudaMemcpyDeviceToDevice, stream),
        "copying a KV cache");
  };
  for (uint32_t index = first_rank(); index < end_rank(); ++index) {
    const RankMemory& rank = ranks_[index];
    for (program::CacheId id = 0; id < program.caches.size(); ++id) {
      const program::CacheDecl& decl = program.caches[id];
      const bool is_ring = decl.ring_positions != 0;
      const uint64_t row = sizeof(float) * decl.num_kv_heads *
                           (is_ring ? decl.ring_positions : program.kv_page_positions);
      const std::pair<uint32_t, uint32_t> ring(copy.from_sequence, copy.to_sequence);
      for (const auto& [from, to] : is_ring ? std::span(&ring, 1) : copy.pages) {
        if (cache_forms_[id] != CacheForm::kRows) {
          const uint64_t tile_bytes = kv_tile_bytes(tile_format(cache_forms_[id]));
          US_TRY(copy_rows(rank.tiles[id], tiles_of_piece(program, id) * tile_bytes, from, to));
          continue;
        }
        US_TRY(copy_rows(rank.keys[id], row * decl.head_dim, from, to));
        US_TRY(copy_rows(rank.values[id], row * decl.v_head_dim, from, to));
      }
    }
  }
  return {};
}

}  // namespace ultraspeed::cuda
