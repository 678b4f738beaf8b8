// Launches of the operations that choose, propose and accept tokens.
#include "cuda/ops/accept.cuh"
#include "cuda/ops/follow.cuh"
#include "cuda/ops/nominate.cuh"
#include "cuda/ops/propose.cuh"
#include "cuda/ops/sample.cuh"
#include "cuda/ops/stage_kernel.cuh"

namespace ultraspeed::cuda {

US_DEFINE_LAUNCH(Sample)
US_DEFINE_LAUNCH(Nominate)
US_DEFINE_LAUNCH(Propose)
US_DEFINE_LAUNCH(Accept)
US_DEFINE_LAUNCH(Follow)

}  // namespace ultraspeed::cuda
