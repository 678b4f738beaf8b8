// Gate/up of the live experts with SwiGLU and quantisation (expert_w4a8.h). A unit is a tile of 32
// neurons of a slot; cluster c has units c, c + clusters, ....
#pragma once

#include "cuda/ops/expert_w4a8.cuh"
#include "cuda/ops/math.cuh"
#include "cuda/ops/routed_pair.cuh"
#include "cuda/ptx/convert.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMaxPart = 1536;          // of the columns, that fits into a CTA
static_assert(kMaxPart == 3 * kGateUpPageColumns);  // gate_up_ranks()

// A CTA's shared memory: stages, its part of the input (codes, scales), partial sums.
template <uint32_t kColumns, uint32_t kRanks>
struct GateUpShared {
  static constexpr uint32_t kInputBytes = E4m3Operand<kColumns>::bytes(kMaxPart / kBlockColumns);
  static constexpr uint32_t kInput = ExpertExchange<kColumns, kRanks>::kBytes;
  static constexpr uint32_t kStage = kInput + kInputBytes;
  static constexpr uint32_t kLimit = kStreamSharedBytes / kGateUpCtas<kColumns> - 1024;
  static constexpr uint32_t kFit = (kLimit - kStage) / GateUpPage::kBytes;
  static constexpr uint32_t kStages = kFit < 11 ? kFit : 11;
  static constexpr uint32_t kBytes = kStage + kStages * GateUpPage::kBytes;
};

// Products in registers at a time.
template <uint32_t kColumns>
inline constexpr uint32_t kGateUpBatch = kColumns == 16   ? 8
                                         : kColumns <= 32 ? 4
                                                          : 2;

struct GateUpShape {
  __device__ GateUpShape(const ExpertLaunch& launch, uint32_t ranks)
      : GateUpShape(launch, ranks, live_slots(launch)) {}
  // live: live_slots() of the launch.
  __device__ GateUpShape(const ExpertLaunch& launch, uint32_t ranks, uint32_t live)
      : tiles(launch.intermediate / kTileNeurons),
        pages(gate_up_columns(launch.hidden) / kGateUpPageColumns / ranks),
        blocks(pages * (kGateUpPageColumns / kBlockColumns)),
        num_units(live * tiles) {}

  uint32_t tiles;   // of a matrix
  uint32_t pages;   // of a tile's part
  uint32_t blocks;  // of a part
  uint32_t num_units;
};

// This CTA's part of the input, that of `ranks`. input_full: counts an arrival of this thread and
// the bytes.
template <uint32_t kColumns>
__device__ void load_input(const ExpertGateUpData& data, const GateUpShape& shape, uint32_t rank,
                           uint32_t ranks, uint64_t* input_full, std::byte* input) {
  using Operand = E4m3Operand<kColumns>;
  const uint32_t code_bytes = Operand::code_bytes(shape.blocks);
  const uint32_t scale_bytes = Operand::scale_bytes(shape.blocks);
  ptx::mbarrier_arrive_expect_tx(input_full, code_bytes + scale_bytes);
  ptx::bulk_copy(input, data.input + rank * code_bytes, code_bytes, input_full);
  ptx::bulk_copy(input + code_bytes, data.input + ranks * code_bytes + rank * scale_bytes,
                 scale_bytes, input_full);
}

// This CTA's pages of a unit.
__device__ __forceinline__ const std::byte* gate_up_pages(const ExpertLaunch& launch,
                                                          const ExpertGateUpData& data,
                                                          const GateUpShape& shape,
                                                          const StreamRole& role, uint32_t unit,
                                                          uint32_t expert, uint32_t ranks) {
  const uint64_t tile_bytes = uint64_t{shape.pages} * ranks * GateUpPage::kBytes;
  return data.weights + (uint64_t{expert} * shape.tiles + unit % shape.tiles) * tile_bytes +
         uint64_t{role.rank} * shape.pages * GateUpPage::kBytes;
}

template <uint32_t kColumns, uint32_t kRanks, uint32_t kStages>
__device__ void load_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                             const GateUpShape& shape, const StreamRole& role,
                             RingBarriers<kStages>& ring, uint64_t* input_full, std::byte* shared) {
  using Shared = GateUpShared<kColumns, kRanks>;
  const uint64_t policy = ptx::l2_evict_first();
  RingPosition<kStages> at;
  Throttle < kStages, kStages<8 ? kStages : 8> throttle;
  bool is_input_known = false;
  const auto await_input = [&] {
    await_grid_before();
    load_input<kColumns>(data, shape, role.rank, kRanks, input_full, shared + Shared::kInput);
    is_input_known = true;
  };
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
    const uint32_t expert = launch.route.expert[unit / shape.tiles];
    const std::byte* page = gate_up_pages(launch, data, shape, role, unit, expert, kRanks);
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

// The warpgroup's slab of a page.
__device__ __forceinline__ Mxfp4Slab read_gate_up_slab(const std::byte* page, uint32_t warpgroup) {
  return {page + warpgroup * kSlabCodeBytes,
          page + GateUpPage::kCodeBytes + warpgroup * kSlabScaleBytes};
}

// Of the lane's neuron of a unit; 0 without biases.
struct GateUpBias {
  __device__ GateUpBias(const ExpertLaunch& launch, const ExpertGateUpData& data, uint32_t unit) {
    if (data.bias == nullptr) return;
    const uint32_t tiles = launch.intermediate / kTileNeurons;
    const float* of_expert =
        data.bias + uint64_t{launch.route.expert[unit / tiles]} * 2 * launch.intermediate;
    const uint32_t neuron = unit % tiles * kTileNeurons + threadIdx.x % 32;
    gate = of_expert[neuron];
    up = of_expert[launch.intermediate + neuron];
  }

  float gate = 0, up = 0;
};

// Makes h of column `column` for the unit's 32 neurons, one a lane, from sums of their gate and up.
template <uint32_t kColumns>
__device__ void finish_gate_up(const ExpertLaunch& launch, const ExpertGateUpData& data,
                               uint32_t unit, uint32_t column, const RoutedPair& routed,
                               const GateUpBias& bias, float gate, float up) {
  using Operand = E4m3Operand<kColumns>;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t tiles = launch.intermediate / kTileNeurons;
  const uint32_t slot = unit / tiles, tile = unit % tiles;
  uint32_t code = 0;
  float column_scale = 0;
  if (routed.pair != program::kNoId) {
    if (data.bias != nullptr) {
      gate += bias.gate;
      up += bias.up;
    }
    const float value = join_gate_up(gate, up, data.clamp_limit);
    const uint32_t largest = __reduce_max_sync(~0u, __float_as_uint(value) & 0x7fffffffu);
    const E4m3Scale scale = e4m3_scale(largest);
    code = scale.is_nan ? kE4m3Nan : ptx::e4m3x2(value * power_of_two(-scale.exponent), 0);
    column_scale = power_of_two(scale.exponent) * kDecodedUnit * routed.weight;
    if (data.activation != nullptr) {
      data.activation[uint64_t{routed.pair} * launch.intermediate + tile * kTileNeurons + lane] =
          value;
    }
  }
  const uint32_t k = down_column(tile * kTileNeurons + lane, launch.chunk_columns);
  const uint32_t pages = down_pages(launch);
  const uint32_t block = k % kDownChunkColumns / kBlockColumns;
  std::byte* piece =
      data.output + (uint64_t{slot} * pages + k / kDownChunkColumns) * Operand::bytes(kSlabBlocks);
  piece[Operand::code(block, column, k % kBlockColumns)] = static_cast<std::byte>(code);
  if (k % kBlockColumns == 0) {
    reinterpret_cast<float*>(piece + Operand::code_bytes(kSlabBlocks))[block * kColumns + column] =
        column_scale;
  }
}

// What a consumer warp does, from stage `at` of kStageBytes on, with its CTA's part of the input.
// index: of the next tile that the exchange, whose buffers are at `sums_out`, carries. kReadsNext:
// reads a page while the products of the one before run, which takes registers; without another CTA
// on the multiprocessor nothing else hides it.
template <uint32_t kColumns, ExpertLaunch::Work kWork, uint32_t kStageBytes, bool kReadsNext,
          uint32_t kStages, class Exchange>
__device__ __forceinline__ void consume_gate_up(const ExpertGateUpData& data,
                                                const GateUpShape& shape, const StreamRole& role,
                                                const std::byte* input, RingBarriers<kStages>& ring,
                                                RingPosition<kStages>& at, const std::byte* stages,
                                                Exchange& exchange, std::byte* sums_out,
                                                uint32_t& index) {
  constexpr uint32_t kBatch = kReadsNext ? kSlabBlocks : kGateUpBatch<kColumns>;
  const auto* column_scales =
      reinterpret_cast<const float*>(input + E4m3Operand<kColumns>::code_bytes(shape.blocks));
  const uint64_t codes = operand_descriptor<kColumns>(input);
  const auto read = [&] {
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    const Mxfp4Slab slab = read_gate_up_slab(stages + at.stage * kStageBytes, role.warpgroup);
    leave_stage(ring, at.stage);
    at.advance();
    return slab;
  };
  uint32_t bits = 0;
  uint32_t pages_behind = role.units(shape.num_units) * shape.pages;
  Mxfp4Slab next;
  if (kReadsNext && pages_behind > 0) next = read();
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters, ++index) {
    float sums[kColumns / 2] = {};
    for (uint32_t p = 0; p < shape.pages; ++p) {
      const Mxfp4Slab slab = kReadsNext ? next : read();
      if constexpr (kWork == ExpertLaunch::Work::kDrain) {
        bits ^= slab.bits();
      } else {
        const uint32_t block = (p * kGateUpSlabs + role.warpgroup) * kSlabBlocks;
        multiply_slab<kColumns, kBatch, kDescriptorStep<kColumns>>(
            slab, codes + block * kDescriptorStep<kColumns>, column_scales + block * kColumns, sums,
            [&] {
              if (kReadsNext && --pages_behind > 0) next = read();
            });
      }
    }
    if constexpr (kWork == ExpertLaunch::Work::kProducts) {
      exchange.send(sums_out, index, role.rank, role.warpgroup, sums);
    }
  }
  if constexpr (kWork == ExpertLaunch::Work::kDrain) keep_bits(bits, data.output);
}

// What a finishing warp does with the tiles from number `index` on of `num_tiles` that the exchange
// carries in all.
template <uint32_t kColumns, uint32_t kRanks>
__device__ __forceinline__ void finish_units(const ExpertLaunch& launch,
                                             const ExpertGateUpData& data, const GateUpShape& shape,
                                             const StreamRole& role,
                                             ExpertExchange<kColumns, kRanks>& exchange,
                                             const std::byte* sums_in, uint32_t& index,
                                             uint32_t num_tiles) {
  using Exchange = ExpertExchange<kColumns, kRanks>;
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
    RoutedPair pairs[Exchange::kGroups];
    const GateUpBias bias(launch, data, unit);
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      pairs[i] =
          find_pair(launch.route, unit / shape.tiles,
                    launch.first_column + Exchange::column(i, role.rank, role.finish_warp()));
    }
    typename Exchange::Sums sums[Exchange::kGroups];
    exchange.take(sums_in, index++, num_tiles, role.finish_warp(), sums);
#pragma unroll
    for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
      finish_gate_up<kColumns>(launch, data, unit,
                               Exchange::column(i, role.rank, role.finish_warp()), pairs[i], bias,
                               sums[i].first, sums[i].second);
    }
  }
}

template <uint32_t kColumns, uint32_t kRanks, ExpertLaunch::Work kWork>
__global__ void __cluster_dims__(kRanks) __launch_bounds__(kStreamThreads, kGateUpCtas<kColumns>)
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
    ptx::mbarrier_wait(&input_full, 0);
    RingPosition<kStages> at;
    uint32_t index = 0;
    consume_gate_up<kColumns, kWork, GateUpPage::kBytes, false>(
        data, shape, role, shared + Shared::kInput, ring, at, shared + Shared::kStage, exchange,
        shared, index);
  } else if (role.is_finisher() && kWork == ExpertLaunch::Work::kProducts) {
    uint32_t index = 0;
    finish_units<kColumns, kRanks>(launch, data, shape, role, exchange, shared, index,
                                   role.units(shape.num_units));
  }
  if (role.is_loader_warp()) {
    __syncwarp();
    ptx::cluster_wait();
  }
}

}  // namespace ultraspeed::cuda
