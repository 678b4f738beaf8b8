// What an operation sees on the device: one task of a step. The twin of cpu::OpContext.
#pragma once

#include <cstdint>

#include "cuda/ptx/warpgroup.cuh"
#include "cuda/view.h"
#include "program/operands.h"
#include "program/route_table.h"
#include "program/task.h"

namespace ultraspeed::cuda {

// Threads of the block that runs a task: all of them call run_op().
inline constexpr uint32_t kTaskThreads = 256;
inline constexpr uint32_t kWarpThreads = 32;
inline constexpr uint32_t kTaskWarps = kTaskThreads / kWarpThreads;

// A barrier of a task's threads, the first ones of a CTA.
inline constexpr uint32_t kTaskBarrier = 1;
template <uint32_t kThreads = kTaskThreads>
__device__ __forceinline__ void task_barrier() {
  ptx::named_barrier(kTaskBarrier, kThreads);
}

// The same; whether `value` holds for all of them.
__device__ __forceinline__ bool all_of_task(bool value) {
  return ptx::named_barrier_all(kTaskBarrier, kTaskThreads, value);
}

inline constexpr uint32_t kMaxColumns = 512;  // of a step: plan::kMaxWidth

// A matrix [rows, cols].
struct Matrix {
  tensor::WeightFormat format;
  uint32_t rows, cols;
  const std::byte* data;
};

// How positions lie in a cache.
struct CachePlaces {
  uint32_t ring_positions;  // 0: paged
  uint32_t page_positions;  // of a page
};

// Where position `position` of column t's sequence lies in a cache.
inline __device__ uint64_t cache_index(const StepView& step, const CachePlaces& places, uint32_t t,
                                       uint32_t position) {
  const StepColumn& of = step.columns[t];
  const uint64_t ring = places.ring_positions;
  if (ring != 0) return of.sequence * ring + position % ring;
  const uint64_t page = step.pages[of.first_page + position / places.page_positions];
  return page * places.page_positions + position % places.page_positions;
}

class OpContext {
 public:
  // buffer_offsets: [BufferId], in floats. shared: kSharedBytes<Op> bytes of shared memory, aligned
  // to 16.
  __device__ OpContext(const MachineView& machine, const uint64_t* buffer_offsets,
                       const StepView& step, const program::Task& task_in, uint32_t rank,
                       std::byte* shared)
      : task(task_in),
        shared_memory(shared),
        machine_(machine),
        step_(step),
        buffer_offsets_(buffer_offsets),
        rank_(rank) {}

  const program::Task& task;
  std::byte* shared_memory;

  __device__ uint32_t row_end() const { return task.row_begin + task.row_count; }
  __device__ uint32_t hidden_size() const { return machine_.hidden_size; }
  __device__ uint32_t num_columns() const { return step_.num_columns; }
  __device__ uint32_t rank() const { return rank_; }
  __device__ uint32_t num_ranks() const { return machine_.num_ranks; }
  __device__ const MachineView& machine() const { return machine_; }
  __device__ const StepView& step() const { return step_; }
  __device__ const StepColumn& column(uint32_t t) const { return step_.columns[t]; }

  __device__ float* buffer_of(uint32_t rank, program::BufferId id) const {
    return machine_.ranks[rank].arena + buffer_offsets_[id];
  }
  __device__ float* buffer(program::BufferId id) const { return buffer_of(rank_, id); }
  __device__ uint32_t* words_of(uint32_t rank, program::BufferId id) const {
    return reinterpret_cast<uint32_t*>(buffer_of(rank, id));
  }
  __device__ uint32_t* words(program::BufferId id) const { return words_of(rank_, id); }

  __device__ Matrix matrix(program::WeightId id, uint32_t index = 0) const {
    const Weight& weight = machine_.ranks[rank_].weights[id];
    return {weight.format, weight.rows, weight.cols, weight.data + index * weight.matrix_bytes};
  }
  // An f32 vector, of several the one with this index; nullptr for kNoId.
  __device__ const float* vector(program::WeightId id, uint32_t index = 0) const {
    return id == program::kNoId ? nullptr : reinterpret_cast<const float*>(matrix(id, index).data);
  }
  __device__ const Cache& cache(program::CacheId id) const {
    return machine_.ranks[rank_].caches[id];
  }

  __device__ uint64_t cache_index(const Cache& cache, uint32_t t, uint32_t position) const {
    return cuda::cache_index(step_, {cache.ring_positions, machine_.kv_page_positions}, t,
                             position);
  }

 private:
  const MachineView& machine_;
  const StepView& step_;
  const uint64_t* buffer_offsets_;
  uint32_t rank_;
};

// Shared memory that an operation needs; specialised where its run_op() is.
template <class Op>
inline constexpr uint32_t kSharedBytes = 0;

// Blocks that share a task, along y; specialised likewise.
template <class Op>
inline constexpr uint32_t kTaskBlocks = 1;
// Whether these are a cluster.
template <class Op>
inline constexpr bool kIsCluster = false;

}  // namespace ultraspeed::cuda
