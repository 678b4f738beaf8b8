// The products of the live experts in w4a8 arithmetic as launches: MXFP4 weights in pages
// (tile/mxfp4_page.h) times e4m3 activations (tile/e4m3_operand.h) on sm_90a. All columns of a step
// are computed for every live expert, which reading the weights hides; what is not routed there is
// dropped.
//
// The CTAs of a cluster share K: quarters of it in gate/up, halves of a chunk in down; two
// warpgroups of each share its blocks of 32 k. The order of a sum depends on K alone:
//   gate/up: 8 partial sums, (quarter, w) = 0 .. 7, each over the quarter's blocks b ascending with
//     b / 8 % 2 == w; then partial sums 0 .. 7 are added in order.
//   down: 4 partial sums of a K-chunk's 8 blocks, s = 0 .. 3, each over the live experts, ascending
//     id, and blocks 2 s and 2 s + 1 of each; then partial sums 0 .. 3 are added in order.
// A block enters its sum by one fused multiply-add (tile/mxfp4_product.cuh).
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "program/route_table.h"

namespace ultraspeed::cuda {

struct ExpertLaunch {
  enum class Work : uint8_t {
    kProducts,
    kDrain,  // reads the same bytes in the same way and computes nothing: what products cost
  };

  program::RouteTable route;  // device
  uint32_t columns = 8;       // of the operands: 8, 16, 32 or 64
  uint32_t hidden = 0;
  uint32_t intermediate = 0;                         // of this rank
  uint32_t gate_up_clusters = 0, down_clusters = 0;  // set_clusters()
  Work work = Work::kProducts;
};

// h[slot, c] = silu(gate * x[c]) * (up * x[c]) for the columns c routed to the slot, quantised to
// e4m3 by the CTA that has the 32 neurons of a block; other columns are zeros.
// REQUIRES: 2048 divides hidden, 128 divides intermediate.
struct ExpertGateUpData {
  const std::byte* weights = nullptr;  // [experts] matrices of gate/up pages
  const std::byte* input = nullptr;    // x: one piece of hidden elements
  std::byte* output = nullptr;         // h: [slots][intermediate / 128] pieces
  float* activation = nullptr;         // h before quantising, [pairs, intermediate]; may be null
};
cudaError_t launch_expert_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                                  cudaStream_t stream);

// partials[c, first_chunk + k, r] = sum over live slots of route weight * (down[r, chunk k] * h).
// REQUIRES: 128 divides hidden, 256 divides intermediate.
struct ExpertDownData {
  const std::byte* weights = nullptr;  // [experts] matrices of down pages
  const std::byte* input = nullptr;    // h
  float* partials = nullptr;           // [num_columns, kReductionChunks, hidden]
  uint32_t num_columns = 0;            // that are written
  uint32_t first_chunk = 0;            // of this rank's intermediate / 256
};
cudaError_t launch_expert_down(const ExpertLaunch& launch, const ExpertDownData& data,
                               cudaStream_t stream);

// Fills in the most clusters that the current device runs at the same time, for launch.columns.
cudaError_t set_clusters(ExpertLaunch* launch);

// Quantises rows [num_columns, hidden] f32 to the input of gate/up with `columns` columns.
// REQUIRES: 32 divides hidden.
struct QuantizeData {
  const float* rows = nullptr;
  uint32_t num_columns = 0;
  std::byte* output = nullptr;
};
cudaError_t launch_quantize(const QuantizeData& data, uint32_t columns, uint32_t hidden,
                            cudaStream_t stream);

}  // namespace ultraspeed::cuda
