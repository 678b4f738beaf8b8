// The kernel of a stage: block x runs task x, or a share of it. A .cu file that has included the
// run_op() of an opcode (ops/NAME.cuh) defines its launch with US_DEFINE_LAUNCH.
#pragma once

#include "cuda/ops/context.cuh"
#include "cuda/ops/launch.cuh"
#include "cuda/ops/stage.h"

namespace ultraspeed::cuda {

template <class Op>
__global__ void __launch_bounds__(kTaskThreads)
    stage_kernel(const __grid_constant__ StageLaunch launch, const __grid_constant__ Op op) {
  extern __shared__ __align__(16) std::byte shared[];
  // The next stage's blocks may be placed now; they wait here until this stage is done.
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const RankTask& of_block = launch.tasks[blockIdx.x];
  const OpContext context(launch.machine, launch.buffer_offsets, *launch.step, of_block.task,
                          of_block.rank, shared);
  run_op(context, op);
}

template <class Op>
cudaError_t launch_tasks(const Op& op, const StageLaunch& launch) {
  constexpr uint32_t kBytes = kSharedBytes<Op>;
  if constexpr (kBytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(stage_kernel<Op>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute attributes[2] = {};
  uint32_t num_attributes = 0;
  if (kIsCluster<Op>) attributes[num_attributes++] = has_clusters(1, kTaskBlocks<Op>);
  if (launch.follows_stage) attributes[num_attributes++] = starts_early();
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(launch.num_tasks, kTaskBlocks<Op>);
  config.blockDim = kTaskThreads;
  config.dynamicSmemBytes = kBytes;
  config.stream = launch.stream;
  config.attrs = attributes;
  config.numAttrs = num_attributes;
  return cudaLaunchKernelEx(&config, stage_kernel<Op>, launch, op);
}

// Operations with limits of their own have an overload beside their run_op().
template <class Op>
constexpr const char* limit_of(const Op&, uint32_t width) {
  return width > kMaxColumns ? "more than 512 columns" : nullptr;
}

#define US_DEFINE_LAUNCH(name)                                                             \
  const char* stage_limit(const program::name##Operands& op, uint32_t width) {             \
    return limit_of(op, width);                                                            \
  }                                                                                        \
  cudaError_t launch_stage(const program::name##Operands& op, const StageLaunch& launch) { \
    return launch_tasks(op, launch);                                                       \
  }

}  // namespace ultraspeed::cuda
