// Launches of the operations that are products with weights, and of what joins them.
#include "cuda/ops/embed.cuh"
#include "cuda/ops/expert_down.cuh"
#include "cuda/ops/expert_gate_up.cuh"
#include "cuda/ops/gate_up.cuh"
#include "cuda/ops/linear.cuh"
#include "cuda/ops/out_proj.cuh"
#include "cuda/ops/qkv_proj.cuh"
#include "cuda/ops/reduce.cuh"
#include "cuda/ops/stage_kernel.cuh"

namespace ultraspeed::cuda {

US_DEFINE_LAUNCH(Embed)
US_DEFINE_LAUNCH(QkvProj)
US_DEFINE_LAUNCH(OutProj)
US_DEFINE_LAUNCH(Reduce)
US_DEFINE_LAUNCH(GateUp)
US_DEFINE_LAUNCH(Linear)
US_DEFINE_LAUNCH(ExpertGateUp)
US_DEFINE_LAUNCH(ExpertDown)

}  // namespace ultraspeed::cuda
