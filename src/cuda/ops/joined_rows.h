// What stands beside a dense product (dense.h) that no epilogue does: several inputs as one row in
// front of it, and behind it heads that are normalised one by one.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/ops/dense.h"
#include "program/operand_ids.h"

namespace ultraspeed::cuda {

// output[t, i * size + k] = inputs[i][t, k], for the columns that the step has. Rows are aligned to
// 16 bytes. REQUIRES: 4 divides size.
struct JoinedRows {
  uint32_t width = 0;                     // columns of the step, at most
  const uint32_t* num_columns = nullptr;  // device
  uint32_t num_inputs = 0, size = 0;
  const float* inputs[program::kMaxTaps] = {};  // [width, size] each
  float* output = nullptr;                      // [width, num_inputs * size]
};
cudaError_t launch_joined_rows(const JoinedRows& data, cudaStream_t stream);

// Heads of sums, as DenseQkv writes them, but q and k heads are first normalised where there is a
// weight (docs/numerics.md section 2): program::QkvProjOperands::q_norm and k_norm.
struct HeadRows {
  uint32_t width = 0;                     // columns of the step, at most
  const uint32_t* num_columns = nullptr;  // device
  const float* sums = nullptr;            // [width, rows]: the q heads, the k heads, the v heads
  DenseQkv heads;
  const float* q_norm = nullptr;  // [head_dim]
  const float* k_norm = nullptr;
  float q_epsilon = 0, k_epsilon = 0;

  US_HOST_DEVICE uint32_t num_heads() const { return heads.num_q_heads + 2 * heads.num_kv_heads; }
};
cudaError_t launch_head_rows(const HeadRows& data, cudaStream_t stream);

}  // namespace ultraspeed::cuda
