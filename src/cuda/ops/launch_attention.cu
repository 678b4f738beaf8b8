// Launches of attention and of the routing of experts.
#include "cuda/ops/attention.cuh"
#include "cuda/ops/attention_merge.cuh"
#include "cuda/ops/route.cuh"
#include "cuda/ops/stage_kernel.cuh"

namespace ultraspeed::cuda {

US_DEFINE_LAUNCH(Attention)
US_DEFINE_LAUNCH(AttentionMerge)
US_DEFINE_LAUNCH(Route)

}  // namespace ultraspeed::cuda
