// The products of the live experts in w4a8 arithmetic as launches: MXFP4 weights in pages
// (tile/mxfp4_page.h) times e4m3 activations (tile/e4m3_operand.h), or FP8 weights in pages
// (tile/dense_page.h) times f16 activations (tile/dense_operand.h), on sm_90a. All columns of a
// step are computed for every live expert, which reading the weights hides; what is not routed
// there is dropped.
//
// The order of a sum depends on K and the number of K-chunks alone. MXFP4:
//   gate/up: the CTAs of a cluster share K, filled up (gate_up_ranks(), gate_up_columns(): quarters
//     of a large hidden_size, halves, or the whole), and two warpgroups of each its blocks of 32 k:
//     2 partial sums of each part, (part, w), each over the part's blocks b ascending with
//     b / 8 % 2 == w; then the partial sums are added in order, then the bias.
//   down: a product of each live expert with the 8 blocks of each of a K-chunk's pages, ascending,
//     from 0; these are added by ascending expert and page, from 0 on, in the first chunk from the
//     experts' weighted biases on, which are added in the same order.
// A block enters its sum by one fused multiply-add (tile/mxfp4_product.cuh). How columns are filled
// up with zeros, and which pages a K-chunk has: tile/mxfp4_page.h.
//
// FP8:
//   gate/up: that of dense products (ops/dense.h);
//   down: two partial sums of a K-chunk's page, w = 0, 1, each over the live experts, ascending:
//     and of each its pages of the chunk, if it has several: sum = sum + product, the product of
//     columns [128 w, 128 w + 127] of the page from 0 on,
//     block of 32 after block, product = fma(d, weight scale * column scale, product); then 0 + 1.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/ops/column_group.h"
#include "cuda/tile/mxfp4_page.h"
#include "program/route_table.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

// Launches begin while the grid before them runs, and fetch weights of the live experts until it is
// done. What they read that early, the route table, must have been written by a grid before that
// one, which the one between has waited for before it let them begin: gate/up stands behind
// launch_quantize(), down behind gate/up.
struct ExpertLaunch : ColumnGroup {
  enum class Work : uint8_t {
    kProducts,
    kDrain,  // reads the same bytes in the same way and computes nothing: what products cost
  };

  tensor::WeightFormat format = tensor::WeightFormat::kMxfp4;  // or kFp8Block128
  program::RouteTable route;                                   // device
  uint32_t hidden = 0;
  uint32_t intermediate = 0;                     // of this rank
  uint32_t chunk_columns = kDownChunkColumns;    // of intermediate, in a K-chunk
  uint32_t gate_up_clusters = 0, down_ctas = 0;  // set_clusters()
  Work work = Work::kProducts;
};

// Pages of a row of down's tiles, and pieces of a slot's h.
US_HOST_DEVICE constexpr uint32_t down_pages(const ExpertLaunch& launch) {
  return padded_down_columns(launch.intermediate, launch.chunk_columns) / kDownChunkColumns;
}

// What of launch.format, columns, hidden, intermediate and chunk_columns the kernels cannot take,
// nullptr if they can; the launches below then return cudaErrorInvalidValue.
const char* expert_limit(const ExpertLaunch& launch);

// Bytes of x and of h with `slots` slots.
uint64_t expert_input_bytes(const ExpertLaunch& launch);
uint64_t expert_activation_bytes(const ExpertLaunch& launch, uint32_t slots);

// h[slot, c] = silu(gate * x[c]) * (up * x[c]), or its clamped form (program::SwigluClamp) of sums
// with biases, for the columns c routed to the slot, rounded to codes by the CTA that has the 32
// neurons of a block; other columns are zeros. FP8 experts have no biases and no clamp.
struct ExpertGateUpData {
  const std::byte* weights = nullptr;  // [experts] matrices of gate/up pages
  const std::byte* input = nullptr;    // x
  std::byte* output = nullptr;         // h: [slots][padded intermediate / 256] pieces; zeros where
                                       // chunks are filled up
  float* activation = nullptr;         // h before quantising, [pairs, intermediate]; may be null
  const float* bias = nullptr;         // [experts][2 * intermediate]; nullptr: none
  float clamp_limit = 0;               // 0: not clamped
};
cudaError_t launch_expert_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                                  cudaStream_t stream);

// partials[c, first_chunk + k, r] = sum over live slots of route weight * (down[r, chunk k] * h),
// in chunk 0 of all ranks with route weight * bias[r].
struct ExpertDownData {
  const std::byte* weights = nullptr;  // [experts] matrices of down pages
  const std::byte* input = nullptr;    // h
  float* partials = nullptr;           // [columns of the step, kReductionChunks, hidden]
  uint32_t first_chunk = 0;            // of this rank's chunks
  const float* bias = nullptr;         // [experts][hidden]; nullptr: none
};
cudaError_t launch_expert_down(const ExpertLaunch& launch, const ExpertDownData& data,
                               cudaStream_t stream);

// Fills in the most clusters that the current device runs at the same time, for launch.columns and
// launch.hidden.
cudaError_t set_clusters(ExpertLaunch* launch);

inline constexpr uint32_t kQuantizeParts = 4;  // CTAs that make a column of gate/up's input

// The input of gate/up: rows [columns of the step, hidden] f32, normalised, rounded to codes, and
// filled up with zeros.
// REQUIRES: of MXFP4 experts, 32 divides hidden, which is at most 6144; of FP8, no expert_limit().
struct QuantizeData {
  const float* rows = nullptr;
  const float* norm_weight = nullptr;  // [hidden]; nullptr: no RMSNorm
  float norm_epsilon = 0;
  std::byte* output = nullptr;
};
cudaError_t launch_quantize(const ExpertLaunch& launch, const QuantizeData& data,
                            cudaStream_t stream);

}  // namespace ultraspeed::cuda
