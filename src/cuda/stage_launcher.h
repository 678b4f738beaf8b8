// Launches the stages of a program in a mode: which kernels a stage has there. The one place that
// decides it.
#pragma once

#include "base/result.h"
#include "cuda/dense_stages.h"
#include "cuda/expert_stages.h"
#include "cuda/flash_stages.h"
#include "cuda/kernel_sink.h"
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
  cudaError_t begin_step(KernelSink& sink) const { return dense_.begin_step(sink); }

  // Stage `stage` of the program, nothing if the machine has no tasks of it. follows_stage: nothing
  // else stands between it and the stage launched before.
  cudaError_t launch(uint32_t stage, bool follows_stage, KernelSink& sink) const;

  // After a step that was aborted, in the stream of the next.
  Status reset(cudaStream_t stream) const { return flash_.reset(stream); }

 private:
  StageLauncher(const Machine& machine, uint32_t program, const StepView* step,
                ExpertStages experts, DenseStages dense, FlashStages flash, RoundedStages rounded)
      : machine_(&machine),
        program_(program),
        step_(step),
        experts_(std::move(experts)),
        dense_(std::move(dense)),
        flash_(std::move(flash)),
        rounded_(rounded) {}

  cudaError_t launch_operands(const program::Operands& operands, const StageLaunch& launch,
                              KernelSink& sink) const;
  // The product, then its rows into the cache, as the cache keeps them.
  cudaError_t launch_qkv_proj(const program::QkvProjOperands& op, const StageLaunch& launch,
                              KernelSink& sink) const;

  // Weights have pages on the one rank of a machine alone (weight_form.h).
  uint32_t rank() const { return machine_->first_rank(); }
  bool has_pages(program::WeightId weight) const {
    return machine_->form(weight) != WeightForm::kCanonical;
  }

  const Machine* machine_;
  uint32_t program_;
  const StepView* step_;
  ExpertStages experts_;
  DenseStages dense_;
  FlashStages flash_;
  RoundedStages rounded_;
};

}  // namespace ultraspeed::cuda
