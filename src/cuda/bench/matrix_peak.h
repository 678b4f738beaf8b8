// The other ceiling: what the tensor cores reach in the best product of large matrices known here,
// cuBLASLt's of e4m3, where the library is installed.
#pragma once

#include <cuda_runtime.h>

#include "base/result.h"
#include "cuda/bench/kernel_bench.h"

namespace ultraspeed::cuda {

// 8192^3, of random values. A refusal where the library cannot be loaded or has no such product.
Result<MatrixPeak> measure_matrix_peak(cudaStream_t stream);

}  // namespace ultraspeed::cuda
