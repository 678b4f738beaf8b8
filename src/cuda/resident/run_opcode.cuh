// The general operations as the resident kernels call them: by the threads of a CTA that is a team
// of its own.
#pragma once

#include "cuda/ops/accept.cuh"
#include "cuda/ops/attention.cuh"
#include "cuda/ops/attention_merge.cuh"
#include "cuda/ops/embed.cuh"
#include "cuda/ops/expert_down.cuh"
#include "cuda/ops/expert_gate_up.cuh"
#include "cuda/ops/follow.cuh"
#include "cuda/ops/gate_up.cuh"
#include "cuda/ops/linear.cuh"
#include "cuda/ops/nominate.cuh"
#include "cuda/ops/out_proj.cuh"
#include "cuda/ops/propose.cuh"
#include "cuda/ops/qkv_proj.cuh"
#include "cuda/ops/reduce.cuh"
#include "cuda/ops/route.cuh"
#include "cuda/ops/sample.cuh"
#include "cuda/resident/resident.h"

namespace ultraspeed::cuda {

// Route has no run_op() of its own: here a rank's columns are one CTA's.
template <uint32_t kOfLane>
__device__ void route(const OpContext& context, const program::RouteOperands& op) {
  __shared__ uint32_t totals[kTaskWarps];
  __shared__ __align__(16) ColumnShared of_warps[kTaskWarps];
  RouteCta<kOfLane, 1, kTaskWarps> cta(context, op, 1);
  cta.prepare();
  cta.run(context.num_columns(), totals, of_warps);
}

inline __device__ void run_op(const OpContext& context, const program::RouteOperands& op) {
  constexpr uint32_t kFew = 16;  // experts of a lane
  if (op.num_experts <= kFew * kWarpThreads) {
    route<kFew>(context, op);
  } else {
    route<kMaxRouteExperts / kWarpThreads>(context, op);
  }
}

template <class Op>
__device__ __noinline__ void run_stage(const OpContext& context, const StageOperands& stage) {
  const Op op = stage.as<Op>();
  run_op(context, op);
}

// kRoutes: Route too, which takes static shared memory.
template <bool kRoutes>
__device__ void run_opcode(const OpContext& context, const StageOperands& stage) {
  switch (stage.opcode) {
#define US_CASE(name)                                                               \
  case program::Opcode::k##name:                                                    \
    if constexpr (kRoutes || program::Opcode::k##name != program::Opcode::kRoute) { \
      run_stage<program::name##Operands>(context, stage);                           \
    }                                                                               \
    return;
    US_OPCODES(US_CASE)
#undef US_CASE
  }
}

}  // namespace ultraspeed::cuda
