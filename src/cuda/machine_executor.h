// What executors on a GPU share: the machine, a stream, the image of a step, and how they check
// one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/machine.h"
#include "cuda/step_image.h"
#include "program/arithmetic.h"
#include "program/executor.h"

namespace ultraspeed::cuda {

class MachineExecutor : public program::Executor {
 public:
  uint64_t weight_bytes(const program::Program& program) const override;
  uint64_t cache_bytes(std::span<const program::Program> programs,
                       const program::CacheLimits& limits) const override;
  uint64_t activation_bytes(std::span<const program::Program> programs,
                            const program::CacheLimits& limits) const override;
  uint32_t prefill_width(const program::Program& program) const override;

 protected:
  MachineExecutor(program::Activations activations, program::KvCacheType kv_cache)
      : activations_(activations), kv_cache_(kv_cache) {}

  // Makes the stream and the image, and loads the machine.
  Status load_machine(std::vector<program::Program> programs, const program::CacheLimits& limits,
                      const program::WeightReader& read_weight);

  // Errors: those of check_step() and check_sampling().
  Status check_run(uint32_t index, const program::StepInput& input) const;

  MachineOptions options() const { return {activations_, kv_cache_, {}}; }

  program::Activations activations_;
  program::KvCacheType kv_cache_;
  Machine machine_;
  Stream stream_;
  std::optional<StepImage> step_;

 private:
  std::vector<uint32_t> vocab_sizes_;  // [program]
};

}  // namespace ultraspeed::cuda
