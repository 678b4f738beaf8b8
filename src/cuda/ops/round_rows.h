// Inputs of products rounded as a mode asks (program/arithmetic.h), for the kernels that then
// multiply in binary32.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "program/arithmetic.h"

namespace ultraspeed::cuda {

// output[r] = rows[r], normalised if there is a weight (docs/numerics.md section 2) and rounded.
// The weight is fetched before the kernels ahead end: nothing in the stream may write it. REQUIRES:
// output is not rows.
struct RoundRows {
  const float* rows = nullptr;  // [num_rows, size]
  uint32_t num_rows = 0, size = 0;
  const float* norm_weight = nullptr;  // [size]
  float norm_epsilon = 0;
  program::Rounding rounding = program::Rounding::kNone;
  float* output = nullptr;  // [num_rows, size]
};
cudaError_t launch_round_rows(const RoundRows& data, cudaStream_t stream);

}  // namespace ultraspeed::cuda
