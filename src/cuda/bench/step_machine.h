// One rank of a program on one GPU, with synthetic weights, caches and route tables, ready to
// launch any of its stages.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "cuda/bench/step_program.h"
#include "cuda/bench/weight_rotation.h"
#include "cuda/machine.h"
#include "cuda/stage_launcher.h"
#include "cuda/step_image.h"
#include "cuda/stream_sink.h"
#include "program/step.h"

namespace ultraspeed::cuda {

class StepMachine {
 public:
  StepMachine(program::Program program, const StepShape& shape, const MachineOptions& options);
  StepMachine(const StepMachine&) = delete;
  StepMachine& operator=(const StepMachine&) = delete;

  const program::Program& program() const { return step_.program; }
  const WeightRotation& rotation() const { return rotation_; }
  const Machine& machine() const { return machine_; }
  std::vector<StageGroup> groups() const;
  // Of everything that load() allocates but tables and operands between stages.
  uint64_t memory_bytes() const;

  // Errors: those of Machine::load().
  Status load(cudaStream_t stream);
  cudaError_t launch(uint32_t stage, bool follows_stage, cudaStream_t stream) const {
    StreamSink sink(stream);
    return launcher_->launch(stage, follows_stage, sink);
  }
  cudaError_t launch(uint32_t stage, bool follows_stage, KernelSink& sink) const {
    return launcher_->launch(stage, follows_stage, sink);
  }
  cudaError_t begin_step(KernelSink& sink) const { return launcher_->begin_step(sink); }
  const StepView* step_view() const { return image_->device_view(); }
  // Before the first stage of each step.
  cudaError_t begin_step(cudaStream_t stream) const {
    StreamSink sink(stream);
    return launcher_->begin_step(sink);
  }
  uint64_t arena_size_bytes() const { return arena_bytes(machine_.programs(), limits_, options_); }
  // Of each layer of experts, in the last step.
  Result<std::vector<uint32_t>> live_counts(cudaStream_t stream) const;
  // What groups() takes for read of each layer, from now on.
  void set_live_experts(uint32_t live_experts) { shape_.live_experts = live_experts; }
  // Errors: of a sampler that found no numbers in what the last step computed.
  Status check_results(cudaStream_t stream);

 private:
  Status fill_caches(cudaStream_t stream);
  Status upload_routes(cudaStream_t stream);
  Status upload_step(cudaStream_t stream);
  program::StepInput input() const { return {columns_, {&page_table_, 1}}; }

  StepShape shape_;
  MachineOptions options_;
  StepProgram step_;
  StepForms forms_;
  WeightRotation rotation_;
  program::CacheLimits limits_;
  std::vector<uint32_t> pages_;
  std::span<const uint32_t> page_table_;
  std::vector<program::Column> columns_;
  Machine machine_;
  std::optional<StepImage> image_;
  std::optional<StageLauncher> launcher_;
};

}  // namespace ultraspeed::cuda
