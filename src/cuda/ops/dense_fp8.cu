// The dense kernels of FP8 weights.
#include "cuda/ops/launch_dense.cuh"

namespace ultraspeed::cuda {

US_DENSE_KERNELS(Fp8Page);

}  // namespace ultraspeed::cuda
