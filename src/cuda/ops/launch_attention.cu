// Launches of attention.
#include "cuda/ops/attention.cuh"
#include "cuda/ops/attention_merge.cuh"
#include "cuda/ops/stage_kernel.cuh"

namespace ultraspeed::cuda {

US_DEFINE_LAUNCH(Attention)
US_DEFINE_LAUNCH(AttentionMerge)

}  // namespace ultraspeed::cuda
