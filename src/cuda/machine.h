// The device memory of all ranks: activation arenas, packed weights and KV caches, and what kernels
// see of it. All ranks lie on one GPU here: pushing to a peer is a store. The twin of
// cpu/machine.h.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/ops/stage.h"
#include "cuda/view.h"
#include "cuda/weight_form.h"
#include "program/executor.h"

namespace ultraspeed::cuda {

// What of a program lies in device memory.
struct ProgramMemory {
  std::vector<uint64_t> offsets;     // [BufferId], in floats, scratch (scratch.h) included
  DeviceMemory buffer_offsets;       // the same
  DeviceMemory tasks;                // RankTask, stage after stage
  std::vector<uint32_t> first_task;  // [stages + 1]
};

// Bytes that load() allocates for the weights of one rank.
uint64_t weight_bytes(const program::Program& program, program::Activations activations);

class Machine {
 public:
  // REQUIRES: `programs` verified and alike in weights, caches and ranks.
  // Errors: kUnsupported for what the kernels have no room for, before any allocation.
  Status load(std::vector<program::Program> programs, const program::CacheLimits& limits,
              const program::WeightReader& read_weight, program::Activations activations);

  const std::vector<program::Program>& programs() const { return programs_; }
  const program::CacheLimits& limits() const { return limits_; }
  const ProgramMemory& memory(uint32_t program) const { return program_memory_[program]; }
  const MachineView& view() const { return view_; }
  // A matrix, a vector (nullptr for kNoId) and a buffer of a program in device memory.
  const Weight& weight(uint32_t rank, program::WeightId id) const {
    return ranks_[rank].weight_list[id];
  }
  WeightForm form(program::WeightId id) const { return forms_[id]; }
  const float* vector(uint32_t rank, program::WeightId id) const {
    return id == program::kNoId ? nullptr : reinterpret_cast<const float*>(weight(rank, id).data);
  }
  float* buffer(uint32_t rank, uint32_t program, program::BufferId id) const {
    return view_.ranks[rank].arena + program_memory_[program].offsets[id];
  }
  // Device pointers.
  Cache cache(uint32_t rank, program::CacheId id) const {
    const RankMemory& memory = ranks_[rank];
    return {memory.keys[id].as<float>(), memory.values[id].as<float>(),
            programs_[0].caches[id].ring_positions};
  }

  // Executor::copy_cache(); ordered after and before what else the stream does.
  Status copy_cache(const program::CacheCopy& copy, cudaStream_t stream);

 private:
  struct RankMemory {
    DeviceMemory arena;
    DeviceMemory weights;                    // all matrices
    std::vector<Weight> weight_list;         // [WeightId]
    std::vector<DeviceMemory> keys, values;  // [CacheId]
    DeviceMemory weight_table;               // Weight [WeightId]
    DeviceMemory cache_table;                // Cache [CacheId]
  };

  Status load_rank(uint32_t rank, const program::WeightReader& read_weight);
  Status load_weights(uint32_t rank, const program::WeightReader& read_weight);
  Status make_caches(uint32_t rank);
  Status load_program(const program::Program& program);

  std::vector<program::Program> programs_;
  program::CacheLimits limits_;
  program::Activations activations_ = program::Activations::kF32;
  std::vector<WeightForm> forms_;  // [WeightId]
  std::vector<RankMemory> ranks_;
  std::vector<ProgramMemory> program_memory_;
  MachineView view_;
};

}  // namespace ultraspeed::cuda
