// The expert products of expert_w4a8.h for steps of many tokens (256 to 2048): the same pages and
// arithmetic, but an expert computes the tokens that are routed to it and no others.
//
// The order of sums is that of expert_w4a8.h, and so are the bits: in down a pair (token, expert)
// has a product of its own, y; a partial sum is 0 plus the y of the token's experts, ascending id.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cuda/tile/expert_tiles.h"
#include "program/route_table.h"
#include "tensor/host_device.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMaxPrefillSlots = 1024;

struct ExpertPrefill {
  enum class Work : uint8_t {
    kProducts,
    kDrain,  // reads the same bytes in the same way and computes nothing
  };

  program::RouteTable route;              // device, at most kMaxPrefillSlots slots
  ExpertTiles tiles;                      // device
  uint32_t num_tokens = 0;                // at most
  const uint32_t* num_columns = nullptr;  // device, tokens of this step; nullptr: num_tokens
  uint32_t experts_per_token = 0;         // at most
  uint32_t max_pairs = 0;                 // of the route table
  uint32_t hidden = 0;
  uint32_t intermediate = 0;  // of this rank
  uint32_t num_ctas = 0;      // multiprocessors
  Work work = Work::kProducts;
};

// How many tokens the step has. Reads device memory.
US_HOST_DEVICE inline uint32_t present_tokens(const ExpertPrefill& launch) {
  return launch.num_columns == nullptr ? launch.num_tokens : *launch.num_columns;
}

// Normalises the rows of the step's tokens as launch_quantize() does, and quantises them
// (tile/e4m3_operand.h) to
//   codes   [num_tokens][hidden] e4m3
//   scales  [num_tokens][hidden / 32] E8M0 of 2^s * kDecodedUnit
// REQUIRES: 512 divides hidden, which is at most kMaxPrefillHidden.
inline constexpr uint32_t kMaxPrefillHidden = 56 * 1024;
struct PrefillRows {
  const float* rows = nullptr;         // [num_tokens, hidden]
  const float* norm_weight = nullptr;  // [hidden]; nullptr: no RMSNorm
  float norm_epsilon = 0;
};
struct PrefillInput {
  std::byte* codes = nullptr;
  std::byte* scales = nullptr;
};
cudaError_t launch_prefill_quantize(const ExpertPrefill& launch, const PrefillRows& rows,
                                    const PrefillInput& output, cudaStream_t stream);

// Fills launch.tiles from launch.route. The other launches read it. It runs beside the launch
// before it, which is launch_prefill_quantize(): that one has waited for the route table.
cudaError_t launch_expert_tiles(const ExpertPrefill& launch, cudaStream_t stream);

// h of each pair, quantised; for a tile with n columns and a chunk of 256 neurons:
//   codes [8 blocks][n / 8][2 halves of 16 k][8 columns][16 k], scales f32 [8 blocks][n]
// chunk after chunk, tile after tile. Columns without a pair are zeros.
// REQUIRES: 2048 divides hidden, 256 divides intermediate.
struct PrefillGateUpData {
  const std::byte* weights = nullptr;  // [experts] matrices of gate/up pages
  PrefillInput input;
  std::byte* output = nullptr;  // h
  float* activation = nullptr;  // h before quantising, [pairs, intermediate]; may be null
};
cudaError_t launch_prefill_gate_up(const ExpertPrefill& launch, const PrefillGateUpData& data,
                                   cudaStream_t stream);
constexpr uint64_t prefill_h_bytes(uint32_t max_slots, uint32_t max_pairs, uint32_t intermediate) {
  return uint64_t{ExpertTiles::max_columns(max_slots, max_pairs)} * intermediate / 32 * 36;
}

// What the CTAs of a down launch tell each other of a section of rows; zeros before the launch.
struct SectionCounters {
  uint32_t written;  // CTAs that have written their products
  uint32_t freed;    // adding warps that have read theirs
};
inline constexpr uint32_t kProductSections = 3;

// partials[t, first_chunk + k, r] = sum over the experts of token t of y (above).
// REQUIRES: 128 divides hidden, 256 divides intermediate; num_ctas CTAs run at the same time.
struct PrefillDownData {
  const std::byte* weights = nullptr;   // [experts] matrices of down pages
  const std::byte* input = nullptr;     // h
  float* products = nullptr;            // scratch, prefill_product_bytes()
  SectionCounters* counters = nullptr;  // scratch, [hidden / 128]
  float* partials = nullptr;            // [tokens of the step, kReductionChunks, hidden]
  uint32_t first_chunk = 0;
  uint32_t section_groups = 1;  // of 128 rows in a section: prefill_section_groups()
};
cudaError_t launch_prefill_down(const ExpertPrefill& launch, const PrefillDownData& data,
                                cudaStream_t stream);

// As many as keep the products of three sections in L2, at most a sixteenth of the rows.
constexpr uint32_t prefill_section_groups(const ExpertPrefill& launch) {
  constexpr uint64_t kSectionBytes = 8 << 20;
  const uint64_t group_bytes = uint64_t{launch.num_tokens} * launch.experts_per_token *
                               (launch.intermediate / 256) * 128 * sizeof(float);
  const uint32_t groups = launch.hidden / 128;
  uint32_t best = 1;
  for (uint32_t n = 1; n <= groups / 16; ++n) {
    if (groups % n == 0 && n * group_bytes <= kSectionBytes) best = n;
  }
  return best;
}
constexpr uint64_t prefill_product_bytes(const ExpertPrefill& launch, uint32_t section_groups) {
  return kProductSections * uint64_t{launch.max_pairs} * (launch.intermediate / 256) *
         section_groups * 128 * sizeof(float);
}

}  // namespace ultraspeed::cuda
