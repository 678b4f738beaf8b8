// Dense products as launches: FP8 or BF16 weights in pages (tile/dense_page.h) times f16 or bf16
// activations (tile/dense_operand.h) on sm_90a. All columns of the operand are computed, which
// reading the weights hides; only those that the step has are read and written.
//
// The CTAs of a cluster share K in quarters of pages; two warpgroups of each share its blocks of
// columns: 128 (FP8) or 64 (BF16). The order of a sum depends on K alone, the matrix's or its
// K-chunk's (of FP8 chunks that cut blocks, on where it begins, too: PagedRow):
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

#include "cuda/ops/column_filter.h"
#include "cuda/ops/column_group.h"
#include "cuda/tile/dense_page.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

// The longest rows that become an operand; half of that with a norm.
inline constexpr uint32_t kMaxDenseInput = 57'856;
// Why rows of k do not become an operand; nullptr: they do.
constexpr const char* dense_input_limit(uint32_t k, bool has_norm) {
  if (k > (has_norm ? kMaxDenseInput / 2 : kMaxDenseInput)) return "rows too long for an operand";
  return nullptr;
}

// Makes an operand of f32 rows, each first normalised if there is a weight:
// norm_weight[i] * (row[i] * factor), the factor as in docs/numerics.md section 2.
// cudaErrorInvalidValue if check_dense() (tile/pack_dense.h) would refuse k, or if it is too large.
struct DensePrepare : ColumnGroup {
  tensor::WeightFormat format = tensor::WeightFormat::kFp8Block128;  // of the weights
  uint32_t k = 0;
  uint32_t num_chunks = 1;             // of the weights
  const float* rows = nullptr;         // [columns of the step, k]
  const float* norm_weight = nullptr;  // [k]; null: no normalisation
  float epsilon = 0;
  std::byte* operand = nullptr;
  // The next launch reads at once what launches before this one wrote: it starts when they have
  // ended (expert_w4a8.h).
  bool holds_next = false;
};
cudaError_t launch_dense_prepare(const DensePrepare& data, cudaStream_t stream);

struct DenseLaunch : ColumnGroup {
  enum class Work : uint8_t {
    kProducts,
    kDrain,  // reads the same bytes in the same way and computes nothing: what products cost
  };

  tensor::WeightFormat format = tensor::WeightFormat::kFp8Block128;
  uint32_t rows = 0;         // of the matrix
  uint32_t k = 0;            // its columns, all chunks of this rank together
  uint32_t num_chunks = 1;   // K-chunks that are summed apart
  uint32_t chunk_pages = 0;  // of a K-chunk: set_pages()
  const std::byte* weights = nullptr;
  const std::byte* operand = nullptr;
  uint32_t clusters = 0;  // set_clusters()
  Work work = Work::kProducts;
};

// Fills in how many clusters to launch on the current device.
cudaError_t set_clusters(DenseLaunch* launch);
// Fills in what follows from format, k and num_chunks. REQUIRES: has_dense_kernels()
// (tile/dense_matrix.h).
inline void set_pages(DenseLaunch* launch) {
  launch->chunk_pages = paged_row(launch->format, launch->k, launch->num_chunks).chunk_pages;
}

// What becomes of the sums, for columns c of the step. cudaErrorInvalidValue if check_dense() would
// refuse the shape, or the width is none of the four.

// output[c, first_row + r] = sum of row r, for columns that the filter wants. neighbour_order(),
// num_chunks 1; total_rows and first_row are even.
struct DenseStore {
  float* output = nullptr;  // [columns, total_rows]
  uint32_t total_rows = 0;
  uint32_t first_row = 0;
  ColumnFilter filter = {};
};
cudaError_t launch_dense(const DenseLaunch& launch, const DenseStore& store, cudaStream_t stream);

// partials[c, first_chunk + i, r] = sum of row r over K-chunk i. neighbour_order().
struct DensePartials {
  float* partials = nullptr;  // [columns, kReductionChunks, rows]
  uint32_t first_chunk = 0;   // this rank's first
};
cudaError_t launch_dense(const DenseLaunch& launch, const DensePartials& partials,
                         cudaStream_t stream);

// output[c, i] = silu(gate i) * up i. gate_up_order(), num_chunks 1.
struct DenseSwiglu {
  float* output = nullptr;  // [columns, rows / 2]
};
cudaError_t launch_dense(const DenseLaunch& launch, const DenseSwiglu& swiglu, cudaStream_t stream);

// Sums and their biases: heads of q rotated to query, of k rotated and of v scaled to the cache row
// of their column. qkv_order(), num_chunks 1.
struct DenseQkv {
  uint32_t num_q_heads = 0, num_kv_heads = 0;
  uint32_t head_dim = 0, v_head_dim = 0, rotary_dim = 0;
  float value_scale = 1;
  const float* bias = nullptr;           // [rows]; nullptr: none
  const float2* rotations = nullptr;     // [columns, rotary_dim / 2]: cos, sin (dense_columns.h)
  const uint32_t* cache_rows = nullptr;  // [columns]; nullptr: row c is column c's
  float* query = nullptr;                // [columns, num_q_heads, head_dim]
  float* keys = nullptr;                 // a row: [num_kv_heads, head_dim]
  float* values = nullptr;               // a row: [num_kv_heads, v_head_dim]
  uint32_t key_stride = 0, value_stride = 0;  // even; elements from a row to the next
};
cudaError_t launch_dense(const DenseLaunch& launch, const DenseQkv& qkv, cudaStream_t stream);

}  // namespace ultraspeed::cuda
