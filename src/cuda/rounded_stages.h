// Stages of products whose inputs a mode rounds and that have no kernels for the codes themselves:
// rounds the inputs (ops/round_rows.h) and multiplies in binary32, as the processor does.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <span>

#include "cuda/kernel_sink.h"
#include "cuda/machine.h"
#include "cuda/ops/round_rows.h"
#include "cuda/ops/stage.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

class RoundedStages {
 public:
  // step: device. REQUIRES: machine, loaded with these activations, and step stay where they are.
  RoundedStages(const Machine& machine, uint32_t program, program::Activations activations,
                program::KvCacheType kv_cache, const StepView* step);

  // A kernel for each input and rank, then the stage's.
  cudaError_t launch(const program::QkvProjOperands& op, const StageLaunch& launch,
                     KernelSink& sink) const;
  cudaError_t launch(const program::OutProjOperands& op, const StageLaunch& launch,
                     KernelSink& sink) const;
  cudaError_t launch(const program::GateUpOperands& op, const StageLaunch& launch,
                     KernelSink& sink) const;
  cudaError_t launch(const program::LinearOperands& op, const StageLaunch& launch,
                     KernelSink& sink) const;
  cudaError_t launch(const program::ExpertGateUpOperands& op, const StageLaunch& launch,
                     KernelSink& sink) const;
  cudaError_t launch(const program::ExpertDownOperands& op, const StageLaunch& launch,
                     KernelSink& sink) const;

  // Keys and values that the stage of `op` has just written, if the mode rounds them.
  cudaError_t round_cache(const program::QkvProjOperands& op, const StageLaunch& launch,
                          KernelSink& sink) const;

 private:
  struct Input {
    program::BufferId buffer;
    program::NormRef norm;
    uint32_t num_rows, size;
  };

  program::Rounding rounding_of(program::WeightId weight) const;
  program::BufferId scratch(uint32_t i) const;
  cudaError_t round(std::span<const Input> inputs, program::Rounding rounding,
                    KernelSink& sink) const;
  // Of one input, whose columns have `size` elements: hands on the operands made by replace(scratch
  // buffer).
  template <class Op, class Replace>
  cudaError_t launch_rounded(const Op& op, const Input& input, const Replace& replace,
                             const StageLaunch& launch, KernelSink& sink) const;

  // Of the columns of `hidden`, normalised.
  template <class Op>
  cudaError_t launch_normed(const Op& op, const StageLaunch& launch, KernelSink& sink) const;

  // An F32 matrix that has a kernel of its own (ops/f32_product.h): a router's.
  bool is_f32_product(const program::LinearOperands& op) const;
  cudaError_t launch_f32(const program::LinearOperands& op, KernelSink& sink) const;

  const Machine* machine_;
  uint32_t index_;
  const program::Program* program_;
  program::Activations activations_;
  program::KvCacheType kv_cache_;
  const StepView* step_;
};

}  // namespace ultraspeed::cuda
