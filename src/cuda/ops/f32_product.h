// Products of F32 matrices with few rows, as routers are: each sum in the order of docs/numerics.md
// section 2, so the bits are those of launch_stage().
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/column_filter.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kF32ProductColumns = 64;  // divides K
// Columns that kernels take at a time, if one of these divides K.
inline constexpr uint32_t kF32LongStage = 256, kF32ShortStage = 192;

// output[t, first_row + r] = weights[r] * rows[t], for columns that the filter wants.
// cudaErrorInvalidValue unless kF32ProductColumns divides k. Weights are fetched before the kernels
// ahead end: nothing in the stream may write them. REQUIRES: weights and rows at multiples of 16
// bytes.
struct F32Product {
  const float* weights = nullptr;  // [num_rows, k]
  uint32_t num_rows = 0, k = 0;
  const float* rows = nullptr;  // [width, k]
  uint32_t width = 0;
  const uint32_t* num_columns = nullptr;  // device, of the step
  ColumnFilter filter = {};
  float* output = nullptr;  // [width, total_rows]
  uint32_t total_rows = 0;
  uint32_t first_row = 0;
};
cudaError_t launch_f32_product(const F32Product& data, cudaStream_t stream);

}  // namespace ultraspeed::cuda
