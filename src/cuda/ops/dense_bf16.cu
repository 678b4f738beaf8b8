// The dense kernels of BF16 weights.
#include "cuda/ops/launch_dense.cuh"

namespace ultraspeed::cuda {

US_DENSE_KERNELS(Bf16Page);

}  // namespace ultraspeed::cuda
