// Dense products as launches: FP8 or BF16 weights in pages (tile/dense_page.h) times f16 or bf16
// activations (tile/dense_operand.h) on sm_90a. All columns of the operand are computed, which
// reading the weights hides.
//
// The CTAs of a cluster share K in quarters; two warpgroups of each share its blocks of columns:
// 128 (FP8) or 64 (BF16). The order of a sum depends on K alone, the matrix's or its K-chunk's:
//   block b of a quarter: d from 0 on, on the tensor cores, steps of 16 columns ascending; of BF16
//     each step's hi terms, then its lo terms;
//   8 partial sums, (quarter, w) = 0 .. 7, each over the quarter's blocks b with b % 2 == w, up:
//     FP8 sum = fma(d, weight scale * 2^s, sum), BF16 sum = sum + d;
//   then partial sums 0 .. 7 are added in order.
//
// All launches are programmatic (ops/launch.cuh). Kernels fetch weights before the kernels ahead of
// them end: nothing in the stream may write weights.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

// Makes an operand of rows [num_columns, k] f32, each first normalised if there is a weight:
// norm_weight[i] * (row[i] * factor), the factor as in docs/numerics.md section 2.
// cudaErrorInvalidValue if check_dense() (tile/pack_dense.h) would refuse k, if it is more than
// 57,856, half of that with a norm, or if there are more columns than the operand has.
struct DensePrepare {
  tensor::WeightFormat format = tensor::WeightFormat::kFp8Block128;  // of the weights
  uint32_t columns = 8;                                              // of the operand: 8 to 64
  uint32_t num_columns = 0;                                          // that take part
  uint32_t k = 0;
  const float* rows = nullptr;
  const float* norm_weight = nullptr;  // [k]; null: no normalisation
  float epsilon = 0;
  std::byte* operand = nullptr;
};
cudaError_t launch_dense_prepare(const DensePrepare& data, cudaStream_t stream);

struct DenseLaunch {
  enum class Work : uint8_t {
    kProducts,
    kDrain,  // reads the same bytes in the same way and computes nothing: what products cost
  };

  tensor::WeightFormat format = tensor::WeightFormat::kFp8Block128;
  uint32_t columns = 8;      // of the operand: 8, 16, 32 or 64
  uint32_t num_columns = 0;  // that are written
  uint32_t rows = 0;         // of the matrix
  uint32_t k = 0;            // its columns, all chunks of this rank together
  uint32_t num_chunks = 1;   // K-chunks that are summed apart
  const std::byte* weights = nullptr;
  const std::byte* operand = nullptr;
  uint32_t clusters = 0;  // set_clusters()
  Work work = Work::kProducts;
};

// Fills in how many clusters to launch on the current device.
cudaError_t set_clusters(DenseLaunch* launch);

// What becomes of the sums. cudaErrorInvalidValue if check_dense() would refuse the shape, the
// width is none of the four, or more columns are to be written.

// output[c, first_row + r] = sum of row r. neighbour_order(), num_chunks 1; total_rows and
// first_row are even.
struct DenseStore {
  float* output = nullptr;  // [num_columns, total_rows]
  uint32_t total_rows = 0;
  uint32_t first_row = 0;
};
cudaError_t launch_dense(const DenseLaunch& launch, const DenseStore& store, cudaStream_t stream);

// partials[c, first_chunk + i, r] = sum of row r over K-chunk i. neighbour_order().
struct DensePartials {
  float* partials = nullptr;  // [num_columns, kReductionChunks, rows]
  uint32_t first_chunk = 0;   // this rank's first
};
cudaError_t launch_dense(const DenseLaunch& launch, const DensePartials& partials,
                         cudaStream_t stream);

// output[c, i] = silu(gate i) * up i. gate_up_order(), num_chunks 1.
struct DenseSwiglu {
  float* output = nullptr;  // [num_columns, rows / 2]
};
cudaError_t launch_dense(const DenseLaunch& launch, const DenseSwiglu& swiglu, cudaStream_t stream);

// Heads of q rotated to query, of k rotated and of v scaled to the cache row of their column.
// qkv_order(), num_chunks 1. Element is float or uint16_t (bf16, rounded to nearest even).
template <class Element>
struct DenseQkv {
  uint32_t num_q_heads = 0, num_kv_heads = 0;
  uint32_t head_dim = 0, v_head_dim = 0, rotary_dim = 0;
  float value_scale = 1;
  const float2* rotations = nullptr;     // [num_columns, rotary_dim / 2]: cos, sin
  const uint32_t* cache_rows = nullptr;  // [num_columns]
  float* query = nullptr;                // [num_columns, num_q_heads, head_dim]
  Element* keys = nullptr;               // [cache rows, num_kv_heads, head_dim]
  Element* values = nullptr;             // [cache rows, num_kv_heads, v_head_dim]
};
template <class Element>
cudaError_t launch_dense(const DenseLaunch& launch, const DenseQkv<Element>& qkv,
                         cudaStream_t stream);

// rotations[c, i] = cos and sin of positions[c] * theta^(-2 i / rotary_dim)
// (rope.cuh): once a step for each theta.
struct DenseRotations {
  const uint32_t* positions = nullptr;  // [num_columns]
  uint32_t num_columns = 0;
  uint32_t rotary_dim = 0;
  float theta = 0;
  float2* rotations = nullptr;
};
cudaError_t launch_dense_rotations(const DenseRotations& data, cudaStream_t stream);

}  // namespace ultraspeed::cuda
