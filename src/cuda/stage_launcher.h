// Launches the stages of a program in a mode: which kernels a stage has there. The one place that
// decides it.
#pragma once

#include "base/result.h"
#include "cuda/dense_stages.h"
#include "cuda/expert_stages.h"
#include "cuda/machine.h"
#include "cuda/ops/stage.h"
#include "cuda/rounded_stages.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

class StageLauncher {
 public:
  // step: device. REQUIRES: machine, loaded with these activations, and step stay where they are.
  static Result<StageLauncher> make(const Machine& machine, uint32_t program,
                                    program::Activations activations, program::KvCacheType kv_cache,
                                    const StepView* step);

  // Before the first stage of each step.
  cudaError_t begin_step(cudaStream_t stream) const { return dense_.begin_step(stream); }

  cudaError_t launch(const program::Operands& operands, const StageLaunch& launch) const;

 private:
  StageLauncher(const Machine& machine, ExpertStages experts, DenseStages dense,
                RoundedStages rounded)
      : machine_(&machine),
        experts_(std::move(experts)),
        dense_(std::move(dense)),
        rounded_(rounded) {}

  bool has_pages(program::WeightId weight) const {
    return machine_->form(weight) != WeightForm::kCanonical;
  }

  template <class Op>
  cudaError_t launch_dense_stage(const Op& op, const StageLaunch& launch) const;

  const Machine* machine_;
  ExpertStages experts_;
  DenseStages dense_;
  RoundedStages rounded_;
};

}  // namespace ultraspeed::cuda
