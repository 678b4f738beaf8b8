// Gate/up of the live experts with SwiGLU and quantisation (expert_w4a8.h). A unit is a tile of 32
// neurons of a slot; cluster c has units c, c + clusters, ....
#pragma once

#include "cuda/ops/expert_w4a8.cuh"
#include "cuda/ops/math.cuh"
#include "program/task.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMaxPart = 1536;  // of hidden, that fits into a CTA

// A CTA's shared memory: stages, its part of the input (codes, scales), partial sums.
template <uint32_t kColumns, uint32_t kRanks>
struct GateUpShared {
  static constexpr uint32_t kInputBytes = E4m3Operand<kColumns>::bytes(kMaxPart / kBlockColumns);
  static constexpr uint32_t kInput = ExpertExchange<kColumns, kRanks>::kBytes;
  static constexpr uint32_t kStage = kInput + kInputBytes;
  static constexpr uint32_t kFit = (kStreamSharedBytes - kStage) / GateUpPage::kBytes;
  static constexpr uint32_t kStages = kFit < 11 ? kFit : 11;
  static constexpr uint32_t kBytes = kStage + kStages * GateUpPage::kBytes;
};

struct GateUpShape {
  __device__ GateUpShape(const ExpertLaunch& launch, uint32_t ranks)
      : tiles(launch.intermediate / kTileNeurons),
        pages(launch.hidden / kGateUpPageColumns / ranks),
        blocks(launch.hidden / ranks / kBlockColumns),
        num_units(present_columns(launch) == 0 ? 0 : *launch.route.num_slots * tiles) {}

  uint32_t tiles;   // of a matrix
  uint32_t pages;   // of a tile's part
  uint32_t blocks;  // of a part
  uint32_t num_units;
};

// This CTA's part of the input.
template <uint32_t kColumns, uint32_t kRanks>
__device__ void load_input(const ExpertGateUpData& data, const GateUpShape& shape, uint32_t rank,
                           uint64_t* input_full, std::byte* input) {
  using Operand = E4m3Operand<kColumns>;
  const uint32_t code_bytes = Operand::code_bytes(shape.blocks);
  const uint32_t scale_bytes = Operand::scale_bytes(shape.blocks);
  ptx::mbarrier_arrive_expect_tx(input_full, code_bytes + scale_bytes);
  ptx::bulk_copy(input, data.input + rank * code_bytes, code_bytes, input_full);
  ptx::bulk_copy(input + code_bytes, data.input + kRanks * code_bytes + rank * scale_bytes,
                 scale_bytes, input_full);
}

template <uint32_t kColumns, uint32_t kRanks, uint32_t kStages>
__device__ void load_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                             const GateUpShape& shape, const StreamRole& role,
                             RingBarriers<kStages>& ring, uint64_t* input_full, std::byte* shared) {
  using Shared = GateUpShared<kColumns, kRanks>;
  const uint64_t policy = ptx::l2_evict_first();
  const uint64_t tile_bytes = uint64_t{shape.pages} * kRanks * GateUpPage::kBytes;
  RingPosition<kStages> at;
  Throttle < kStages, kStages<8 ? kStages : 8> throttle;
  bool is_input_known = false;
  const auto await_input = [&] {
    await_grid_before();
    load_input<kColumns, kRanks>(data, shape, role.rank, input_full, shared + Shared::kInput);
    is_input_known = true;
  };
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
    const uint32_t expert = launch.route.expert[unit / shape.tiles];
    const std::byte* page = data.weights +
                            (uint64_t{expert} * shape.tiles + unit % shape.tiles) * tile_bytes +
                            uint64_t{role.rank} * shape.pages * GateUpPage::kBytes;
    for (uint32_t p = 0; p < shape.pages; ++p, page += GateUpPage::kBytes, at.advance()) {
      if (!is_input_known && at.parity == 1) await_input();  // the ring is full
      throttle.wait(ring);
      claim_stage(ring, at, GateUpPage::kBytes);
      ptx::bulk_copy(shared + Shared::kStage + at.stage * GateUpPage::kBytes, page,
                     GateUpPage::kBytes, &ring.full[at.stage], policy);
    }
  }
  if (!is_input_known) await_input();
}

// What a consumer thread needs of a page: its bytes of the warpgroup's slab.
struct GateUpSlab {
  __device__ GateUpSlab(const std::byte* page, const StreamRole& role) {
    const uint32_t warp = role.warp % 4;
#pragma unroll
    for (uint32_t i = 0; i < kGateUpBlocks; ++i) {
      codes[i] = *reinterpret_cast<const uint2*>(
          page + GateUpPage::codes(role.warpgroup, i, warp, role.lane));
    }
    const uint4 words = *reinterpret_cast<const uint4*>(
        page + GateUpPage::scales(role.warpgroup, warp, role.lane / 4));
    scales[0] = words.x;
    scales[1] = words.y;
    scales[2] = words.z;
    scales[3] = words.w;
  }

  uint2 codes[kGateUpBlocks];
  uint32_t scales[kGateUpBlocks / 2];  // (block 2 i: row g, row g + 8; block 2 i + 1: likewise)
};

// codes: descriptor of the slab's first block of columns; column_scales: likewise.
template <uint32_t kColumns>
__device__ __forceinline__ void multiply_slab(const GateUpSlab& slab, uint64_t codes,
                                              const float* column_scales,
                                              float (&sums)[kColumns / 2]) {
  constexpr uint32_t kBatch = kColumns <= 16 ? 8 : kColumns == 32 ? 4 : 2;
#pragma unroll
  for (uint32_t begin = 0; begin < kGateUpBlocks; begin += kBatch) {
    uint2 batch[kBatch];
#pragma unroll
    for (uint32_t i = 0; i < kBatch; ++i) batch[i] = slab.codes[begin + i];
    multiply_blocks<kColumns>(
        batch, [&](uint32_t i) { return codes + (begin + i) * kDescriptorStep<kColumns>; },
        [&](uint32_t i, const float(&d)[kColumns / 2]) {
          const uint32_t block = begin + i;
          add_scaled<kColumns>(sums, d, row_scales(slab.scales[block / 2], block % 2 * 2),
                               ColumnScales<kColumns>(column_scales + block * kColumns));
        });
  }
}

// The pair of a slot and a column, kNoId if it is not routed, and its weight.
struct RoutedPair {
  uint32_t pair = program::kNoId;
  float weight = 0;
};

// For a whole warp.
__device__ inline RoutedPair find_pair(const program::RouteTable& route, uint32_t slot,
                                       uint32_t column) {
  const uint32_t end = route.pair_begin[slot + 1];
  for (uint32_t begin = route.pair_begin[slot]; begin < end; begin += 32) {
    const uint32_t pair = begin + threadIdx.x % 32;
    const bool is_it = pair < end && route.pair_column[pair] == column;
    const float weight = pair < end ? route.pair_weight[pair] : 0.0F;
    const uint32_t found = __ballot_sync(~0u, is_it);
    if (found == 0) continue;
    const int lane = __ffs(static_cast<int>(found)) - 1;
    return {begin + static_cast<uint32_t>(lane), __shfl_sync(~0u, weight, lane)};
  }
  return {};
}

// Makes h of column `column` for the unit's 32 neurons, one a lane, from their gate and up.
template <uint32_t kColumns>
__device__ void finish_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                               uint32_t unit, uint32_t column, const RoutedPair& routed, float gate,
                               float up) {
  using Operand = E4m3Operand<kColumns>;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t tiles = launch.intermediate / kTileNeurons;
  const uint32_t slot = unit / tiles, tile = unit % tiles;
  uint8_t code = 0;
  float column_scale = 0;
  if (routed.pair != program::kNoId) {
    const float value = silu_multiply(gate, up);
    const uint32_t largest = __reduce_max_sync(~0u, __float_as_uint(value) & 0x7fffffffu);
    const E4m3Scale scale = e4m3_scale(largest);
    code = scale.is_nan ? kE4m3Nan : tensor::e4m3_from_float(value * power_of_two(-scale.exponent));
    column_scale = power_of_two(scale.exponent) * kDecodedUnit * routed.weight;
    if (data.activation != nullptr) {
      data.activation[uint64_t{routed.pair} * launch.intermediate + tile * kTileNeurons + lane] =
          value;
    }
  }
  const uint32_t k = down_column(tile * kTileNeurons + lane, launch.chunk_columns);
  const uint32_t pieces =
      padded_down_columns(launch.intermediate, launch.chunk_columns) / kDownPageColumns;
  const uint32_t block = k % kDownPageColumns / kBlockColumns;
  std::byte* piece = data.output + (uint64_t{slot} * pieces + k / kDownPageColumns) *
                                       Operand::bytes(kDownPieceBlocks);
  piece[Operand::code(block, column, k % kBlockColumns)] = std::byte{code};
  if (k % kBlockColumns == 0) {
    reinterpret_cast<float*>(
        piece + Operand::code_bytes(kDownPieceBlocks))[block * kColumns + column] = column_scale;
  }
}

// What a finishing warp does.
template <uint32_t kColumns, uint32_t kRanks>
__device__ __forceinline__ void finish_units(const ExpertLaunch& launch,
                                             const ExpertGateUpData& data, const GateUpShape& shape,
                                             const StreamRole& role,
                                             ExpertExchange<kColumns, kRanks>& exchange,
                                             const std::byte* shared) {
  using Exchange = ExpertExchange<kColumns, kRanks>;
  const uint32_t num_units = role.units(shape.num_units);
  uint32_t index = 0;
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
    RoutedPair pairs[Exchange::kGroups];
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      pairs[i] =
          find_pair(launch.route, unit / shape.tiles,
                    launch.first_column + Exchange::column(i, role.rank, role.finish_warp()));
    }
    typename Exchange::Sums sums[Exchange::kGroups];
    exchange.take(shared, index++, num_units, role.finish_warp(), sums);
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      finish_gate_up<kColumns>(launch, data, unit,
                               Exchange::column(i, role.rank, role.finish_warp()), pairs[i],
                               sums[i].first, sums[i].second);
    }
  }
}

template <uint32_t kColumns, uint32_t kRanks, ExpertLaunch::Work kWork>
__global__ void __cluster_dims__(kRanks) __launch_bounds__(kStreamThreads, 1)
    expert_gate_up_kernel(const __grid_constant__ ExpertLaunch launch,
                          const __grid_constant__ ExpertGateUpData data) {
  using Shared = GateUpShared<kColumns, kRanks>;
  using Exchange = ExpertExchange<kColumns, kRanks>;
  constexpr uint32_t kStages = Shared::kStages;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ RingBarriers<kStages> ring;
  __shared__ Exchange exchange;
  __shared__ uint64_t input_full;
  const StreamRole role;
  if (threadIdx.x == 0) {
    ring.init(kConsumerWarps);
    exchange.init();
    ptx::mbarrier_init(&input_full, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::cluster_arrive();
  const GateUpShape shape(launch, kRanks);
  if (!role.is_loader_warp()) ptx::cluster_wait();  // before anything is written to other CTAs

  if (role.is_loader()) {
    load_gate_up<kColumns, kRanks, kStages>(launch, data, shape, role, ring, &input_full, shared);
  } else if (role.is_consumer()) {
    const std::byte* input = shared + Shared::kInput;
    const auto* column_scales =
        reinterpret_cast<const float*>(input + E4m3Operand<kColumns>::code_bytes(shape.blocks));
    const uint64_t codes = operand_descriptor<kColumns>(input);
    ptx::mbarrier_wait(&input_full, 0);
    RingPosition<kStages> at;
    uint32_t index = 0;
    uint32_t bits = 0;
    for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
      float sums[kColumns / 2] = {};
      for (uint32_t p = 0; p < shape.pages; ++p, at.advance()) {
        ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
        const GateUpSlab slab(shared + Shared::kStage + at.stage * GateUpPage::kBytes, role);
        leave_stage(ring, at.stage);
        if constexpr (kWork == ExpertLaunch::Work::kDrain) {
          for (const uint2 word : slab.codes) bits ^= word.x ^ word.y;
          for (const uint32_t word : slab.scales) bits ^= word;
        } else {
          const uint32_t block = (p * kPageSlabs + role.warpgroup) * kGateUpBlocks;
          multiply_slab<kColumns>(slab, codes + block * kDescriptorStep<kColumns>,
                                  column_scales + block * kColumns, sums);
        }
      }
      if constexpr (kWork == ExpertLaunch::Work::kProducts) {
        exchange.send(shared, index++, role.rank, role.warpgroup, sums);
      }
    }
    if constexpr (kWork == ExpertLaunch::Work::kDrain) keep_bits(bits, data.output);
  } else if (role.is_finisher() && kWork == ExpertLaunch::Work::kProducts) {
    finish_units<kColumns, kRanks>(launch, data, shape, role, exchange, shared);
  }
  if (role.is_loader_warp()) {
    __syncwarp();
    ptx::cluster_wait();
  }
}

}  // namespace ultraspeed::cuda
