// The stages of a program whose FP8 or BF16 weights have dense pages, in w4a8: what stands in for
// launch_stage() there. Steps of more than 64 columns are taken 64 columns at a time.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/kernel_sink.h"
#include "cuda/machine.h"
#include "cuda/ops/dense.h"
#include "cuda/ops/dense_columns.h"
#include "cuda/scratch.h"
#include "cuda/view.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

class DenseStages {
 public:
  // Allocates what lies between the launches. step: device. REQUIRES: machine, loaded in w4a8, and
  // step stay where they are.
  static Result<DenseStages> make(const Machine& machine, uint32_t program, const StepView* step);

  // Rotations and cache rows of a step's columns: a kernel, or none, before the step's first stage.
  cudaError_t begin_step(KernelSink& sink) const;

  // The part of a stage that is this rank's: what it writes, it writes to its own buffers. For each
  // group of columns a kernel that makes the operand, and one that multiplies. Several inputs are
  // joined before that, heads with norms of their own are made behind it.
  cudaError_t launch(uint32_t rank, const program::QkvProjOperands& op, KernelSink& sink) const;
  cudaError_t launch(uint32_t rank, const program::OutProjOperands& op, KernelSink& sink) const;
  cudaError_t launch(uint32_t rank, const program::GateUpOperands& op, KernelSink& sink) const;
  cudaError_t launch(uint32_t rank, const program::LinearOperands& op, KernelSink& sink) const;

 private:
  // Some columns of the step.
  struct Group {
    DenseLaunch fp8, bf16;
  };
  struct Product {
    program::WeightId weight = program::kNoId;
    program::BufferId input = program::kNoId;
    program::NormRef norm;
    uint32_t num_chunks = 1;
  };

  DenseStages(const Machine& machine, uint32_t program, const StepView* step)
      : machine_(&machine), program_(program), step_(step) {}

  // What QkvProj stages need of the columns; those that need the same share it.
  struct Kind {
    DenseColumns columns;
    DeviceMemory memory;  // of columns
  };

  const program::Program& program() const { return machine_->programs()[program_]; }
  // Whether the stage writes rows of a cache: those for a cache of tiles go to scratch.
  bool has_cache_rows(const program::QkvProjOperands& op) const;
  const DenseColumns* find_kind(const program::QkvProjOperands& op) const;  // nullptr: none
  Status add_kind(const program::QkvProjOperands& op);
  Status add_groups(uint64_t operand_bytes);
  // Where heads go and how they get there.
  DenseQkv heads_of(uint32_t rank, const program::QkvProjOperands& op) const;
  cudaError_t join_inputs(uint32_t rank, const program::LinearOperands& op, KernelSink& sink) const;
  float* scratch(uint32_t rank, ScratchBuffer i) const {
    return machine_->buffer(rank, program_, scratch_id(program(), i));
  }
  template <class Epilogue>
  cudaError_t launch_product(uint32_t rank, const Product& product, const Epilogue& epilogue,
                             KernelSink& sink) const;

  const Machine* machine_;
  uint32_t program_;
  const StepView* step_;
  std::vector<Group> groups_;
  DeviceMemory operand_;  // of the product that runs
  std::vector<Kind> kinds_;
  DeviceMemory kind_table_;  // DenseColumns [kinds]
};

// Adds what the stages of a program need.
void add_dense_scratch(const program::Program& program, std::span<const WeightForm> weight_forms,
                       ScratchFloats* floats);

}  // namespace ultraspeed::cuda
