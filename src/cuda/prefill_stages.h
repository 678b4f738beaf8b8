// The stages of MXFP4 experts in programs of many columns in w4a8, of the one rank that a machine
// holds: each live expert is read once and computes its own tokens alone
// (ops/expert_w4a8_prefill.h).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "cuda/kernel_sink.h"
#include "cuda/machine.h"
#include "cuda/ops/expert_w4a8_prefill.h"
#include "cuda/scratch.h"
#include "cuda/view.h"
#include "program/operands.h"

namespace ultraspeed::cuda {

// Columns that a program of prefill best has: more where these kernels take the experts. weights:
// [WeightId].
uint32_t prefill_width(const program::Program& program, std::span<const WeightForm> weights);

// Whether the experts of this program are taken so: it has 64 columns or more, and they have pages
// of a shape that the kernels know.
bool has_prefill_stages(const program::Program& program, std::span<const WeightForm> weights);

// kExpertScratch.
void add_prefill_scratch(const program::Program& program, std::span<const WeightForm> weights,
                         ScratchFloats* floats);

class PrefillStages {
 public:
  // step: device. REQUIRES: has_prefill_stages(); machine and step stay where they are.
  static Result<PrefillStages> make(const Machine& machine, uint32_t program, const StepView* step);

  // Four kernels; gate/up quantises the columns and cuts the step into tiles first. Activations are
  // written in f32 too.
  cudaError_t launch(const program::ExpertGateUpOperands& op, KernelSink& sink) const;
  cudaError_t launch(const program::ExpertDownOperands& op, KernelSink& sink) const;

 private:
  PrefillStages(const Machine& machine, uint32_t program) : machine_(&machine), program_(program) {}

  float* buffer(program::BufferId id) const;
  std::byte* scratch(uint64_t offset_bytes) const;
  // Of the stage's route table.
  template <class Op>
  ExpertPrefill launch_of(const Op& op) const;

  const Machine* machine_;
  uint32_t program_;
  ExpertPrefill launch_;  // without a route table
};

}  // namespace ultraspeed::cuda
