// A stage of a program as a launch: one block a task, or some that share it. What the graph
// executor records, one node a stage.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/view.h"
#include "program/operands.h"
#include "program/task.h"

namespace ultraspeed::cuda {

// A task and whose it is.
struct RankTask {
  program::Task task;
  uint32_t rank = 0;
};

struct StageLaunch {
  MachineView machine;
  const uint64_t* buffer_offsets = nullptr;  // device, [BufferId], in floats
  const StepView* step = nullptr;            // device
  const RankTask* tasks = nullptr;           // device, [num_tasks]
  uint32_t num_tasks = 0;
  bool follows_stage = false;  // nothing else stands between it and the stage before
  cudaStream_t stream = nullptr;
};

// stage_limit() says what of a stage with `width` columns the kernels have no room for, nullptr if
// they have; launch_stage() launches it. An opcode without its twin here does not link.
#define US_DECLARE_LAUNCH(name)                                               \
  const char* stage_limit(const program::name##Operands& op, uint32_t width); \
  cudaError_t launch_stage(const program::name##Operands& op, const StageLaunch& launch);
US_OPCODES(US_DECLARE_LAUNCH)
#undef US_DECLARE_LAUNCH

}  // namespace ultraspeed::cuda
