// Gate/up of expert_w4a8_prefill.h. An item is a tile of columns and 64 neurons of its expert, 32 a
// warpgroup; CTA c has items c, c + CTAs, ... A stage of the ring is a slab (256 k) of both page
// rows with the gathered columns. A warpgroup walks K in the order of the decode kernels' sums: the
// pages of a quarter, first their slabs 0, then their slabs 1.
#pragma once

#include "cuda/ops/expert_w4a8_prefill.cuh"
#include "cuda/ops/math.cuh"
#include "cuda/ptx/copy_async.cuh"
#include "cuda/tile/keep_bits.cuh"
#include "program/task.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cuda {

// Warps 8 .. 11 load, warps 12 .. 15 finish: they make h of the sums while the consumers go on.
// Registers: 256 * 184 + 256 * 72 are a multiprocessor's.
inline constexpr uint32_t kGateUpThreads = 512;
inline constexpr uint32_t kGateUpRegisters = 184;
inline constexpr uint32_t kPrefillFinishWarps = 2;  // of a consumer warpgroup

struct PrefillGateUpShared {
  static constexpr uint32_t kStages = 5;
  // Sums of a warpgroup's rows, [64 columns][64 rows]; padded, so that no two lanes share a bank.
  static constexpr uint32_t kSumStride = kBlockRows + 4;
  static constexpr uint32_t kSumBytes = kMaxTileColumns * kSumStride * 4;
  static constexpr uint32_t kSums = kStages * kPrefillStageBytes;
  static constexpr uint32_t kBytes = kSums + 2 * kSumBytes;
  static_assert(kBytes <= kMaxPrefillShared);
};
using GateUpRing = RingBarriers<PrefillGateUpShared::kStages>;
using GateUpPosition = RingPosition<PrefillGateUpShared::kStages>;

struct PrefillGateUpShape {
  __device__ PrefillGateUpShape(const ExpertPrefill& launch)
      : groups(launch.intermediate / (2 * kTileNeurons)),
        pages(launch.hidden / kGateUpPageColumns),
        sum_stages(pages / kGateUpMaxRanks),
        num_items(*launch.tiles.num_tiles * groups) {}

  uint32_t groups;      // of 64 neurons
  uint32_t pages;       // of 32 neurons
  uint32_t sum_stages;  // stages of a partial sum
  uint32_t num_items;
};

// Walks the stages of an item: the pages of a quarter, first their slabs 0, then their slabs 1.
struct GateUpCursor {
  __device__ void advance(const PrefillGateUpShape& shape) {
    if (++page < first + shape.sum_stages) return;
    slab ^= 1;
    if (slab == 0) first = page;
    page = first;
  }
  __device__ bool is_end(const PrefillGateUpShape& shape) const { return page >= shape.pages; }
  __device__ uint32_t k() const { return page * kGateUpPageColumns + slab * kSlabColumns; }

  uint32_t page = 0, slab = 0;
  uint32_t first = 0;  // page of the quarter
};

// Warp 0 of those that load has the weights and the columns' scales, the others the columns' codes,
// each every third stage. A stage is full when all bytes are there and these have arrived: the
// thread that announces the weights, the warp that writes scales, the warp that copied the codes.
inline constexpr uint32_t kCodeWarps = 3;
inline constexpr uint32_t kGateUpArrivals = 3;

// A lane has the scales of columns `lane` and `lane + 32`; they are read two stages ahead.
struct GateUpPageLoader {
  const ExpertPrefill& launch;
  const PrefillGateUpData& data;
  const PrefillGateUpShape& shape;
  GateUpRing& ring;
  std::byte* shared;
  uint32_t lane = threadIdx.x % 32;
  uint64_t row_bytes = uint64_t{shape.pages} * GateUpPage::kBytes;
  GateUpPosition at;

  struct Scales {
    uint2 columns[2] = {};
  };

  __device__ void read_scales(const std::byte* const (&rows)[2], GateUpCursor& ahead,
                              Scales& scales) const {
    if (ahead.is_end(shape)) return;
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      scales.columns[i] =
          rows[i] == nullptr ? uint2{0, 0}
                             : *reinterpret_cast<const uint2*>(rows[i] + ahead.k() / kBlockColumns);
    }
    ahead.advance(shape);
  }

  // weights: of the item's first page row.
  __device__ void copy_weights(const std::byte* weights, const GateUpCursor& part) const {
    const uint64_t policy = ptx::l2_evict_first();
    std::byte* to = shared + at.stage * kPrefillStageBytes;
    const std::byte* page = weights + part.page * GateUpPage::kBytes;
    ptx::mbarrier_arrive_expect_tx(&ring.full[at.stage], kStageWeightBytes);
#pragma unroll
    for (uint32_t w = 0; w < 2; ++w, page += row_bytes) {
      ptx::bulk_copy(to + w * kSlabCodeBytes, page + part.slab * kSlabCodeBytes, kSlabCodeBytes,
                     &ring.full[at.stage], policy);
      ptx::bulk_copy(to + 2 * kSlabCodeBytes + w * kSlabScaleBytes,
                     page + GateUpPage::kCodeBytes + part.slab * kSlabScaleBytes, kSlabScaleBytes,
                     &ring.full[at.stage], policy);
    }
  }

  __device__ void fill(const std::byte* weights, GateUpCursor& part, uint32_t columns,
                       const Scales& scales) {
    ptx::mbarrier_wait(&ring.empty[at.stage], at.parity ^ 1);
    if (lane == 0) copy_weights(weights, part);
    auto* to = reinterpret_cast<float*>(shared + at.stage * kPrefillStageBytes + kStageWeightBytes +
                                        kSlabBlocks * columns * kBlockColumns);
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      const uint32_t column = lane + 32 * i;
      if (column >= columns) continue;
      const uint2 raw = scales.columns[i];
#pragma unroll
      for (uint32_t b = 0; b < kSlabBlocks; ++b) {
        to[b * columns + column] = __uint_as_float(scale_bits(b < 4 ? raw.x : raw.y, b % 4));
      }
    }
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(&ring.full[at.stage]);
    at.advance();
    part.advance(shape);
  }

  __device__ void run() {
    for (uint32_t item = blockIdx.x; item < shape.num_items; item += gridDim.x) {
      const ExpertTile tile = launch.tiles.tile[item / shape.groups];
      const std::byte* weights =
          data.weights +
          (uint64_t{tile.expert} * shape.groups + item % shape.groups) * 2 * row_bytes;
      const std::byte* rows[2] = {};
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        const uint32_t column = lane + 32 * i;
        if (column >= tile.num_pairs) continue;
        rows[i] = data.input.scales + uint64_t{launch.route.pair_column[tile.first_pair + column]} *
                                          (launch.hidden / kBlockColumns);
      }
      GateUpCursor part, ahead;
      Scales even, odd;
      read_scales(rows, ahead, even);
      read_scales(rows, ahead, odd);
      for (uint32_t i = 0; i < shape.pages; ++i) {  // two stages a page
        fill(weights, part, tile.columns, even);
        read_scales(rows, ahead, even);
        fill(weights, part, tile.columns, odd);
        read_scales(rows, ahead, odd);
      }
    }
  }
};

// Warp `warp` of kCodeWarps: a lane has a column of 8 and a quarter of its 256 k.
__device__ inline void load_gate_up_codes(const ExpertPrefill& launch,
                                          const PrefillGateUpData& data,
                                          const PrefillGateUpShape& shape, GateUpRing& ring,
                                          std::byte* shared, uint32_t warp) {
  constexpr uint32_t kGroups = kMaxTileColumns / 8;
  const uint32_t lane = threadIdx.x % 32, column = lane % 8, chunk = lane / 8;
  GateUpPosition at;
  uint32_t turn = 0;  // whose stage this is
  for (uint32_t item = blockIdx.x; item < shape.num_items; item += gridDim.x) {
    const ExpertTile tile = launch.tiles.tile[item / shape.groups];
    const std::byte* rows[kGroups];
#pragma unroll
    for (uint32_t j = 0; j < kGroups; ++j) {
      const uint32_t of_tile = j * 8 + column;
      const uint32_t token =
          of_tile < tile.num_pairs ? launch.route.pair_column[tile.first_pair + of_tile] : 0;
      rows[j] = data.input.codes + uint64_t{token} * launch.hidden + chunk * 16;
    }
    const uint32_t block_bytes = tile.columns * kBlockColumns;
    for (GateUpCursor part; !part.is_end(shape); part.advance(shape), at.advance()) {
      const bool is_mine = turn == warp;
      turn = turn + 1 == kCodeWarps ? 0 : turn + 1;
      if (!is_mine) continue;
      const uint32_t to = ptx::smem_address(shared) + at.stage * kPrefillStageBytes +
                          kStageWeightBytes + chunk / 2 * block_bytes + chunk % 2 * 128 +
                          column * 16;
      const uint32_t k = part.k();
      ptx::mbarrier_wait(&ring.empty[at.stage], at.parity ^ 1);
#pragma unroll
      for (uint32_t j = 0; j < kGroups; ++j) {
        if (j * 8 >= tile.columns) break;
        const uint32_t bytes = j * 8 + column < tile.num_pairs ? 16 : 0;  // or zeros
#pragma unroll
        for (uint32_t quarter = 0; quarter < 4; ++quarter) {
          ptx::copy_async_16(to + j * 256 + quarter * 2 * block_bytes, rows[j] + k + quarter * 64,
                             bytes);
        }
      }
      ptx::copy_async_commit();
      ptx::copy_async_wait<0>();
      // Partner: the consumers' wait for ring.full, then wgmma. A fence waits for all copies of
      // its thread, which is why the warps take turns.
      ptx::fence_proxy_async();
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(&ring.full[at.stage]);
    }
  }
}

__device__ __forceinline__ void load_gate_up(const ExpertPrefill& launch,
                                             const PrefillGateUpData& data,
                                             const PrefillGateUpShape& shape, GateUpRing& ring,
                                             std::byte* shared, uint32_t warp) {
  if (warp == 0) {
    GateUpPageLoader{launch, data, shape, ring, shared}.run();
  } else {
    load_gate_up_codes(launch, data, shape, ring, shared, warp - 1);
  }
}

// The thread's part of a stage's weights.
__device__ __forceinline__ Mxfp4Slab read_stage_slab(const std::byte* stage) {
  const uint32_t warpgroup = threadIdx.x / 128;
  return {stage + warpgroup * kSlabCodeBytes,
          stage + 2 * kSlabCodeBytes + warpgroup * kSlabScaleBytes};
}

// Sums of the two consumer warpgroups on their way to the warps that finish.
struct GateUpHandover {
  uint64_t full[2];   // completes when the consumer warps of a warpgroup have written
  uint64_t empty[2];  // completes when its finishing warps have read

  // Called by one thread; a CTA barrier and fence_mbarrier_init() follow.
  __device__ void init() {
    for (uint32_t i = 0; i < 2; ++i) {
      ptx::mbarrier_init(&full[i], 4);
      ptx::mbarrier_init(&empty[i], kPrefillFinishWarps);
    }
  }
};

// For a warpgroup: [columns][gate, up][32 neurons].
template <uint32_t kColumns>
__device__ __forceinline__ void write_sums(const float (&sums)[kColumns / 2], float* buffer) {
  constexpr uint32_t kSumStride = PrefillGateUpShared::kSumStride;
  const uint32_t neuron = threadIdx.x / 32 % 4 * 8 + threadIdx.x % 32 / 4;
  float* to = buffer + threadIdx.x % 4 * 2 * kSumStride + neuron;
#pragma unroll
  for (uint32_t j = 0; j < kColumns / 2; j += 4, to += 8 * kSumStride) {
    to[0] = sums[j];
    to[kSumStride] = sums[j + 1];
    to[kTileNeurons] = sums[j + 2];
    to[kSumStride + kTileNeurons] = sums[j + 3];
  }
}

// For a finishing warp: makes h of every other column for 32 neurons, one a lane.
__device__ __forceinline__ void finish_gate_up_item(const ExpertPrefill& launch,
                                                    const PrefillGateUpData& data,
                                                    const ExpertTile& tile, uint32_t neuron_tile,
                                                    const float* buffer) {
  constexpr uint32_t kChunkTiles = kDownChunkColumns / kTileNeurons;
  const uint32_t lane = threadIdx.x % 32, block = neuron_tile % kChunkTiles;
  std::byte* operand = data.output + uint64_t{tile.first_column} * launch.intermediate / 32 * 36 +
                       neuron_tile / kChunkTiles * stage_operand_bytes(tile.columns);
  std::byte* codes = operand + block * tile.columns * kBlockColumns + lane / 16 * 128 + lane % 16;
  auto* scales = reinterpret_cast<float*>(operand + kSlabBlocks * tile.columns * kBlockColumns) +
                 block * tile.columns;
  for (uint32_t column = threadIdx.x / 32 % kPrefillFinishWarps; column < tile.columns;
       column += kPrefillFinishWarps) {
    uint8_t code = 0;
    float column_scale = 0;
    if (column < tile.num_pairs) {
      const uint32_t pair = tile.first_pair + column;
      const float weight = launch.route.pair_weight[pair];
      const float* sums = buffer + column * PrefillGateUpShared::kSumStride + lane;
      const float value = silu_multiply(sums[0], sums[kTileNeurons]);
      const E4m3Scale scale =
          e4m3_scale(__reduce_max_sync(~0u, __float_as_uint(value) & 0x7fffffffu));
      code =
          scale.is_nan ? kE4m3Nan : tensor::e4m3_from_float(value * power_of_two(-scale.exponent));
      column_scale = power_of_two(scale.exponent) * kDecodedUnit * weight;
      if (data.activation != nullptr) {
        data.activation[uint64_t{pair} * launch.intermediate + neuron_tile * kTileNeurons + lane] =
            value;
      }
    }
    codes[column / 8 * 256 + column % 8 * 16] = std::byte{code};
    if (lane == 0) scales[column] = column_scale;
  }
}

// What finishing warp `warp` of 4 does.
__device__ __forceinline__ void finish_gate_up(const ExpertPrefill& launch,
                                               const PrefillGateUpData& data,
                                               const PrefillGateUpShape& shape,
                                               GateUpHandover& handover, const std::byte* shared,
                                               uint32_t warp) {
  const uint32_t warpgroup = warp / kPrefillFinishWarps;
  const auto* buffer = reinterpret_cast<const float*>(shared + PrefillGateUpShared::kSums +
                                                      warpgroup * PrefillGateUpShared::kSumBytes);
  uint32_t parity = 0;
  for (uint32_t item = blockIdx.x; item < shape.num_items; item += gridDim.x, parity ^= 1) {
    const ExpertTile tile = launch.tiles.tile[item / shape.groups];
    ptx::mbarrier_wait(&handover.full[warpgroup], parity);
    finish_gate_up_item(launch, data, tile, item % shape.groups * 2 + warpgroup, buffer);
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&handover.empty[warpgroup]);
  }
}

template <uint32_t kColumns>
__device__ __forceinline__ void multiply_gate_up_item(const PrefillGateUpShape& shape,
                                                      GateUpRing& ring, GateUpPosition& at,
                                                      const std::byte* shared,
                                                      uint64_t* buffer_empty, uint32_t parity,
                                                      float* buffer) {
  float total[kColumns / 2];
  for (uint32_t sum = 0; sum < kGateUpMaxRanks * kGateUpSlabs; ++sum) {
    float sums[kColumns / 2] = {};
    for (uint32_t i = 0; i < shape.sum_stages; ++i, at.advance()) {
      const std::byte* stage = shared + at.stage * kPrefillStageBytes;
      ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
      const Mxfp4Slab slab = read_stage_slab(stage);
      add_slab<kColumns>(slab, stage + kStageWeightBytes, sums);
      leave_stage(ring, at.stage);
    }
#pragma unroll
    for (uint32_t i = 0; i < kColumns / 2; ++i) total[i] = sum == 0 ? sums[i] : total[i] + sums[i];
  }
  ptx::mbarrier_wait(buffer_empty, parity ^ 1);
  write_sums<kColumns>(total, buffer);
}

// What a consumer warp does.
__device__ __forceinline__ void multiply_gate_up(const ExpertPrefill& launch,
                                                 const PrefillGateUpShape& shape, GateUpRing& ring,
                                                 GateUpHandover& handover, std::byte* shared) {
  const uint32_t warpgroup = threadIdx.x / 128;
  auto* buffer = reinterpret_cast<float*>(shared + PrefillGateUpShared::kSums +
                                          warpgroup * PrefillGateUpShared::kSumBytes);
  GateUpPosition at;
  uint32_t parity = 0;
  for (uint32_t item = blockIdx.x; item < shape.num_items; item += gridDim.x, parity ^= 1) {
    for_columns(launch.tiles.tile[item / shape.groups].columns, [&](auto columns) {
      multiply_gate_up_item<columns>(shape, ring, at, shared, &handover.empty[warpgroup], parity,
                                     buffer);
    });
    __syncwarp();
    if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&handover.full[warpgroup]);
  }
}

template <ExpertPrefill::Work kWork>
__global__ void __launch_bounds__(kGateUpThreads, 1)
    prefill_gate_up_kernel(const __grid_constant__ ExpertPrefill launch,
                           const __grid_constant__ PrefillGateUpData data) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ GateUpRing ring;
  __shared__ GateUpHandover handover;
  if (threadIdx.x == 0) {
    ring.init(kPrefillConsumerWarps, kGateUpArrivals);
    handover.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  const PrefillGateUpShape shape(launch);
  const uint32_t warp = threadIdx.x / 32;
  if (warp >= kPrefillConsumerWarps) {
    ptx::release_registers<kOtherRegisters>();
    if (warp < kPrefillConsumerWarps + 4) {
      load_gate_up(launch, data, shape, ring, shared, warp - kPrefillConsumerWarps);
    } else if (kWork == ExpertPrefill::Work::kProducts) {
      finish_gate_up(launch, data, shape, handover, shared, warp - kPrefillConsumerWarps - 4);
    }
  } else {
    ptx::claim_registers<kGateUpRegisters>();
    if constexpr (kWork == ExpertPrefill::Work::kProducts) {
      multiply_gate_up(launch, shape, ring, handover, shared);
    } else {
      GateUpPosition at;
      uint32_t bits = 0;
      for (uint32_t item = blockIdx.x; item < shape.num_items; item += gridDim.x) {
        for (uint32_t i = 0; i < shape.pages * kGateUpSlabs; ++i, at.advance()) {
          ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
          bits ^= read_stage_slab(shared + at.stage * kPrefillStageBytes).bits();
          leave_stage(ring, at.stage);
        }
      }
      keep_bits(bits, data.output);
    }
  }
}

}  // namespace ultraspeed::cuda
