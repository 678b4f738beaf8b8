// The expert stages of a program in w4a8, of the one rank that a machine holds: what stands in for
// launch_stage() there. Programs of 64 columns or more go to PrefillStages if that takes them, and
// are taken 64 columns at a time otherwise.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/kernel_sink.h"
#include "cuda/machine.h"
#include "cuda/ops/expert_w4a8.h"
#include "cuda/prefill_stages.h"
#include "cuda/view.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

class ExpertStages {
 public:
  // Allocates the operands that lie between the stages. step: device. REQUIRES: machine, loaded in
  // w4a8, and step stay where they are.
  static Result<ExpertStages> make(const Machine& machine, uint32_t program, const StepView* step);

  // Bytes that make() allocates for a program of one rank; those of PrefillStages are scratch.
  static uint64_t operand_bytes(const program::Program& program, std::span<const WeightForm> forms);

  // Each group of columns a node. Activations are written in f32 too.
  cudaError_t launch(const program::ExpertGateUpOperands& op, KernelSink& sink) const;
  cudaError_t launch(const program::ExpertDownOperands& op, KernelSink& sink) const;

 private:
  // Some columns of the step.
  struct Group {
    ExpertLaunch launch;
    DeviceMemory input, activation;  // of gate/up and of down
  };

  ExpertStages(const Machine& machine, uint32_t program) : machine_(&machine), program_(program) {}

  Status add_group(const ColumnGroup& columns, const program::ExpertGateUpOperands& op);
  float* buffer(program::BufferId id) const;
  ExpertLaunch with_route(const Group& group, program::BufferId route, uint32_t max_slots,
                          uint32_t max_pairs) const;

  const Machine* machine_;
  uint32_t program_;
  std::optional<PrefillStages> prefill_;
  std::vector<Group> groups_;  // without prefill_
};

}  // namespace ultraspeed::cuda
