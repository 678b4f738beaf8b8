// The device memory of all ranks: activation arenas, packed weights and KV caches, and what kernels
// see of it. All ranks lie on one GPU here: pushing to a peer is a store. The twin of
// cpu/machine.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/cache_form.h"
#include "cuda/device.h"
#include "cuda/machine_options.h"
#include "cuda/ops/stage.h"
#include "cuda/scratch.h"
#include "cuda/view.h"
#include "cuda/weight_form.h"
#include "cuda/weight_source.h"
#include "program/executor.h"
#include "program/kv_scales.h"

namespace ultraspeed::cuda {

// What of a program lies in device memory.
struct ProgramMemory {
  std::vector<uint64_t> offsets;     // [BufferId], in floats, scratch (scratch.h) included
  DeviceMemory buffer_offsets;       // the same
  DeviceMemory tasks;                // RankTask, stage after stage
  std::vector<uint32_t> first_task;  // [stages + 1]
};

// Bytes that load() allocates on one rank: for the weights, each in a place of its own, the KV
// caches, and the arena, scratch (scratch.h) included.
uint64_t weight_bytes(const program::Program& program, const MachineOptions& options);
uint64_t cache_bytes(std::span<const program::Program> programs, const program::CacheLimits& limits,
                     program::KvCacheType kv_cache);
uint64_t arena_bytes(std::span<const program::Program> programs, const program::CacheLimits& limits,
                     const MachineOptions& options);

class Machine {
 public:
  // REQUIRES: `programs` verified and alike in weights, caches and ranks.
  // Errors: kUnsupported for what the kernels have no room for, before any allocation.
  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              WeightSource* weights, const MachineOptions& options);

  const std::vector<program::Program>& programs() const { return programs_; }
  const program::CacheLimits& limits() const { return limits_; }
  const ProgramMemory& memory(uint32_t program) const { return program_memory_[program]; }
  const MachineView& view() const { return view_; }
  // The ranks whose memory it holds: [first_rank(), end_rank()).
  uint32_t first_rank() const { return options_.only_rank.value_or(0); }
  uint32_t end_rank() const {
    return options_.only_rank ? *options_.only_rank + 1 : view_.num_ranks;
  }
  bool is_single() const { return end_rank() - first_rank() == 1; }
  // A matrix, a vector (nullptr for kNoId) and a buffer of a program in device memory.
  const Weight& weight(uint32_t rank, program::WeightId id) const {
    return ranks_[rank].weight_list[id];
  }
  WeightForm form(program::WeightId id) const { return forms_[id]; }
  std::span<const WeightForm> forms() const { return forms_; }
  const float* vector(uint32_t rank, program::WeightId id) const {
    return id == program::kNoId ? nullptr : reinterpret_cast<const float*>(weight(rank, id).data);
  }
  float* buffer(uint32_t rank, uint32_t program, program::BufferId id) const {
    return view_.ranks[rank].arena + program_memory_[program].offsets[id];
  }
  CacheForm cache_form(program::CacheId id) const { return cache_forms_[id]; }
  bool has_tiles() const {
    return std::ranges::any_of(cache_forms_, [](CacheForm f) { return f != CacheForm::kRows; });
  }
  // Device pointers; none to rows of a cache of tiles.
  Cache cache(uint32_t rank, program::CacheId id) const {
    const RankMemory& memory = ranks_[rank];
    return {memory.keys[id].as<float>(), memory.values[id].as<float>(),
            programs_[0].caches[id].ring_positions};
  }
  // REQUIRES: a cache of tiles.
  KvTiles tiles(uint32_t rank, program::CacheId id) const;
  // Of a stage's kv heads, in device memory; nullptr unless the caches are fp8.
  const KvScales* kv_scales(uint32_t rank, const program::QkvProjOperands& op) const;

  // Executor::copy_cache(); ordered after and before what else the stream does.
  Status copy_cache(const program::CacheCopy& copy, cudaStream_t stream);

 private:
  struct RankMemory {
    DeviceMemory arena;
    DeviceMemory weights;             // all matrices
    std::vector<Weight> weight_list;  // [WeightId]
    // [CacheId]; empty where a cache has the other form.
    std::vector<DeviceMemory> keys, values, tiles;
    program::KvScaleTable kv_scales;
    DeviceMemory kv_scale_memory;  // kv_scales.all()
    DeviceMemory weight_table;     // Weight [WeightId]
    DeviceMemory cache_table;      // Cache [CacheId]
  };

  Status load_rank(uint32_t rank, WeightSource* weights);
  Status load_weights(uint32_t rank, WeightSource* weights);
  Status make_caches(uint32_t rank);
  ScratchFloats scratch_floats(const program::Program& program) const;
  Status load_program(const program::Program& program);

  std::vector<program::Program> programs_;
  program::CacheLimits limits_;
  MachineOptions options_;
  std::vector<WeightForm> forms_;       // [WeightId]
  std::vector<CacheForm> cache_forms_;  // [CacheId]
  std::vector<RankMemory> ranks_;       // [rank]; empty where only another one is held
  std::vector<ProgramMemory> program_memory_;
  MachineView view_;
};

}  // namespace ultraspeed::cuda
