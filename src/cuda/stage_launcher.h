// Launches the stages of a program in a mode: which kernels a stage has there. The one place that
// decides it.
#pragma once

#include "base/result.h"
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

  cudaError_t launch(const program::Operands& operands, const StageLaunch& launch) const;

 private:
  StageLauncher(const Machine& machine, ExpertStages experts, RoundedStages rounded)
      : machine_(&machine), experts_(std::move(experts)), rounded_(rounded) {}

  bool has_pages(program::WeightId weight) const {
    return machine_->form(weight) != WeightForm::kCanonical;
  }

  const Machine* machine_;
  ExpertStages experts_;
  RoundedStages rounded_;
};

}  // namespace ultraspeed::cuda
