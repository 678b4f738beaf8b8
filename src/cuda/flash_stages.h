// Attention to caches of tiles (ops/flash_attention.h): what stands in for launch_stage() there.
// QkvProj writes its rows to scratch, whoever computes them; attention to a short window brings
// them to the tiles, else store_rows() does. All splits of a stage are one launch, which merges
// them, too.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "base/result.h"
#include "cuda/cache_form.h"
#include "cuda/kernel_sink.h"
#include "cuda/machine.h"
#include "cuda/ops/flash_attention.h"
#include "cuda/scratch.h"
#include "cuda/view.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

class FlashStages {
 public:
  // step: device. REQUIRES: machine and step stay where they are.
  static Result<FlashStages> make(const Machine& machine, uint32_t program, const StepView* step);

  bool has_tiles(program::CacheId cache) const {
    return cache != program::kNoId && machine_->cache_form(cache) != CacheForm::kRows;
  }
  bool has_tiles(const program::AttentionOperands& op) const { return has_tiles(op.cache); }
  bool has_tiles(const program::AttentionMergeOperands& op) const {
    return has_tiles(attention_of(op));
  }

  // The stage that computes the same rows and leaves them in scratch. REQUIRES: has_tiles().
  program::QkvProjOperands with_rows(const program::QkvProjOperands& op) const;

  // After that stage: rows from scratch to the tiles of op.cache, unless its attention does that.
  cudaError_t store_rows(const program::QkvProjOperands& op, KernelSink& sink) const;

  // Whether the stage's rows are a draft block's own, which its attention brings to tiles: the step
  // overwrites them there when it comes to the drafter's context.
  bool stores_block_rows(const program::QkvProjOperands& op) const;

  // REQUIRES: has_tiles(). With several splits Attention keeps its queries in scratch and
  // AttentionMerge does the rest: its output may lie where the queries were.
  cudaError_t launch(const program::AttentionOperands& op, KernelSink& sink) const;
  cudaError_t launch(const program::AttentionMergeOperands& op, KernelSink& sink) const;

  // After a step that was aborted, in the stream of the next: counters are as before the first.
  Status reset(cudaStream_t stream) const {
    return cuda_status(cudaMemsetAsync(arrivals_.data(), 0, arrivals_.size_bytes(), stream),
                       "clearing counters of attention");
  }

 private:
  FlashStages(const Machine& machine, uint32_t program, const StepView* step)
      : machine_(&machine), index_(program), program_(&machine.programs()[program]), step_(step) {}

  const program::AttentionOperands& attention_of(const program::AttentionMergeOperands& op) const;
  // Whether the attention to a cache takes the step's rows from scratch and stores them.
  bool attention_takes_rows(program::CacheId cache) const;
  // rows_of(rank): [T, num_kv_heads * (head_dim + v_head_dim)].
  template <class RowsOf>
  cudaError_t store_rows(program::CacheId cache, const RowsOf& rows_of, KernelSink& sink) const;
  cudaError_t store_queries(const program::AttentionOperands& op, KernelSink& sink) const;
  cudaError_t attend(const program::AttentionOperands& op, program::BufferId output,
                     KernelSink& sink) const;
  float* scratch(uint32_t rank, ScratchBuffer i) const {
    return machine_->buffer(rank, index_, scratch_id(*program_, i));
  }
  KvFormat format(program::CacheId cache) const { return tile_format(machine_->cache_form(cache)); }

  const Machine* machine_;
  uint32_t index_;
  const program::Program* program_;
  const StepView* step_;
  uint32_t num_multiprocessors_ = 0;
  DeviceMemory arrivals_;  // FlashPartials, of all launches
};

// Adds what the stages of a program need.
void add_flash_scratch(const program::Program& program, std::span<const CacheForm> cache_forms,
                       uint32_t num_sequences, ScratchFloats* floats);

}  // namespace ultraspeed::cuda
