// The programs of a machine as CUDA graphs: a kernel a stage, or some, recorded once and started
// for each step.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "cuda/device.h"
#include "cuda/machine.h"
#include "cuda/stage_launcher.h"
#include "cuda/step_image.h"
#include "program/arithmetic.h"
#include "program/step.h"

namespace ultraspeed::cuda {

class ProgramGraphs {
 public:
  // Records every program of the machine. REQUIRES: it and step (device) stay where they are.
  static Result<ProgramGraphs> record(const Machine& machine, program::Activations activations,
                                      program::KvCacheType kv_cache, const StepView* step,
                                      cudaStream_t stream);

  // Runs a step of a program, and waits for it. image: of the steps that it was recorded for.
  Status run(uint32_t program, const program::StepInput& input, StepImage* image,
             cudaStream_t stream, program::StepOutput* output) const;

  const StageLauncher& launcher(uint32_t program) const { return *recorded_[program].launcher; }

 private:
  // A program's graph and what times its parts.
  struct Recorded {
    GraphExec graph;
    Event begin, draft_end, heads_begin, end;
    std::optional<StageLauncher> launcher;
    bool has_draft = false, has_heads = false;
  };

  static Result<Recorded> record_program(const program::Program& program, StageLauncher launcher,
                                         cudaStream_t stream);
  static Status launch_stages(const program::Program& program, const Recorded& recorded,
                              cudaStream_t stream);

  // Of the last run of it that has ended: how long its draft part and its heads took.
  Result<double> draft_seconds(uint32_t program) const;

  const Machine* machine_ = nullptr;
  std::vector<Recorded> recorded_;  // [program]
};

}  // namespace ultraspeed::cuda
