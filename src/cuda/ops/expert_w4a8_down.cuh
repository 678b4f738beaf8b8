// Down of the live experts into the partial sums of this rank's K-chunks (expert_w4a8.h). A unit is
// two tiles of 64 rows and a chunk; cluster c has units c, c + clusters, ...; a unit's sums stay
// in registers over all live slots. A stage of the ring is a slot's page with its columns.
#pragma once

#include "cuda/ops/expert_w4a8.cuh"
#include "program/operand_ids.h"

namespace ultraspeed::cuda {

template <uint32_t kColumns>
struct DownShared {
  static constexpr uint32_t kPieceBytes = E4m3Operand<kColumns>::bytes(kDownPieceBlocks);
  static constexpr uint32_t kStageBytes = DownPage::kBytes + kPieceBytes;
  static constexpr uint32_t kStage = ExpertExchange<kColumns, kDownRanks>::kBytes;
  static constexpr uint32_t kFit = (kStreamSharedBytes - kStage) / kStageBytes;
  static constexpr uint32_t kStages = kFit < 20 ? kFit : 20;
  static constexpr uint32_t kBytes = kStage + kStages * kStageBytes;
};

struct DownShape {
  __device__ DownShape(const ExpertLaunch& launch)
      : row_groups(launch.hidden / kDownPageRows),
        chunks(launch.intermediate / launch.chunk_columns),
        num_units(present_columns(launch) == 0 ? 0 : row_groups * chunks),
        num_slots(*launch.route.num_slots) {}

  uint32_t row_groups, chunks;
  uint32_t num_units;
  uint32_t num_slots;
};

// The stages of a CTA's ring in order: all live slots of each of its units.
struct DownWalk {
  __device__ DownWalk(const DownShape& shape_in, const StreamRole& role_in)
      : shape(shape_in), role(role_in) {
    begin_unit(role.cluster);
  }

  __device__ bool is_done() const { return unit >= shape.num_units || shape.num_slots == 0; }
  __device__ void advance() {
    if (++slot == shape.num_slots) begin_unit(unit + role.num_clusters);
  }

  const DownShape& shape;
  const StreamRole& role;
  uint32_t slot;
  uint32_t piece;  // of a slot's columns
  uint32_t page;   // of an expert's matrix

 private:
  __device__ void begin_unit(uint32_t next) {
    unit = next;
    slot = 0;
    piece = unit / shape.row_groups * kDownRanks + role.rank;
    page = unit % shape.row_groups * shape.chunks * kDownRanks + piece;
  }

  uint32_t unit;
};

template <uint32_t kColumns, uint32_t kStages>
__device__ void load_down(const ExpertLaunch& launch, const ExpertDownData& data,
                          const DownShape& shape, const StreamRole& role,
                          RingBarriers<kStages>& ring, std::byte* shared) {
  using Shared = DownShared<kColumns>;
  const uint64_t policy = ptx::l2_evict_first();
  const uint32_t pieces = shape.chunks * kDownRanks;  // of a row group, and of a slot's columns
  const uint64_t matrix_bytes = uint64_t{shape.row_groups} * pieces * DownPage::kBytes;
  const auto stage_of = [&](const RingPosition<kStages>& at) {
    return shared + Shared::kStage + at.stage * Shared::kStageBytes;
  };
  const auto load_page = [&](const DownWalk& walk, const RingPosition<kStages>& at) {
    claim_stage(ring, at, Shared::kStageBytes);
    ptx::bulk_copy(stage_of(at),
                   data.weights + launch.route.expert[walk.slot] * matrix_bytes +
                       uint64_t{walk.page} * DownPage::kBytes,
                   DownPage::kBytes, &ring.full[at.stage], policy);
  };
  const auto load_columns = [&](const DownWalk& walk, const RingPosition<kStages>& at) {
    const uint64_t piece = uint64_t{walk.slot} * pieces + walk.piece;
    ptx::bulk_copy(stage_of(at) + DownPage::kBytes, data.input + piece * Shared::kPieceBytes,
                   Shared::kPieceBytes, &ring.full[at.stage]);
  };
  DownWalk walk(shape, role);
  RingPosition<kStages> at;
  for (; !walk.is_done() && at.parity == 0; walk.advance(), at.advance()) load_page(walk, at);
  await_grid_before();
  DownWalk columns(shape, role);
  RingPosition<kStages> columns_at;
  for (uint32_t i = 0; i < kStages && !columns.is_done(); ++i) {
    load_columns(columns, columns_at);
    columns.advance();
    columns_at.advance();
  }
  for (; !walk.is_done(); walk.advance(), at.advance()) {
    load_page(walk, at);
    load_columns(walk, at);
  }
}

// What a consumer thread needs of a page: its bytes of the warpgroup's slab.
struct DownSlab {
  __device__ DownSlab(const std::byte* page, const StreamRole& role) {
    const uint32_t warp = role.warp % 4;
    const uint2 words = *reinterpret_cast<const uint2*>(
        page + DownPage::scales(role.warpgroup, warp, role.lane / 4));
    scales[0] = words.x;
    scales[1] = words.y;
#pragma unroll
    for (uint32_t i = 0; i < kDownBlocks; ++i) {
      codes[i] = *reinterpret_cast<const uint2*>(
          page + DownPage::codes(role.warpgroup, i, warp, role.lane));
    }
  }

  uint2 codes[kDownBlocks];
  uint32_t scales[kDownBlocks / 2];  // of a tile: (row g, row g + 8) of two blocks
};

// A consumer's sums of its tiles.
template <uint32_t kColumns>
struct DownSums {
  float tiles[kDownTiles][kColumns / 2] = {};
};

// Adds the products of the stage at `at`. One at a time: taking several before leaving any was
// slower (28 us instead of 23 for three, H100).
template <uint32_t kColumns, uint32_t kStages, ExpertLaunch::Work kWork>
__device__ __forceinline__ void add_slot(const StreamRole& role, RingBarriers<kStages>& ring,
                                         const std::byte* stages, const RingPosition<kStages>& at,
                                         DownSums<kColumns>& sums, uint32_t& bits) {
  using Shared = DownShared<kColumns>;
  constexpr uint32_t kBatch = kColumns <= 32 ? kDownBlocks : 1;  // products in registers
  const std::byte* stage = stages + at.stage * Shared::kStageBytes;
  const std::byte* piece = stage + DownPage::kBytes;
  ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
  const DownSlab slab(stage, role);
  if constexpr (kWork == ExpertLaunch::Work::kDrain) {
    for (const uint2 word : slab.codes) bits ^= word.x ^ word.y;
    for (const uint32_t word : slab.scales) bits ^= word;
  } else {
    const uint64_t codes =
        operand_descriptor<kColumns>(piece) + role.warpgroup * 2 * kDescriptorStep<kColumns>;
    const float* column_scales = reinterpret_cast<const float*>(
                                     piece + E4m3Operand<kColumns>::code_bytes(kDownPieceBlocks)) +
                                 role.warpgroup * 2 * kColumns;
#pragma unroll
    for (uint32_t begin = 0; begin < kDownBlocks; begin += kBatch) {
      uint2 batch[kBatch];
#pragma unroll
      for (uint32_t i = 0; i < kBatch; ++i) batch[i] = slab.codes[begin + i];
      multiply_blocks<kColumns>(
          batch, [&](uint32_t i) { return codes + (begin + i) % 2 * kDescriptorStep<kColumns>; },
          [&](uint32_t i, const float(&d)[kColumns / 2]) {
            const uint32_t block = begin + i;
            add_scaled<kColumns>(sums.tiles[block / 2], d,
                                 row_scales(slab.scales[block / 2], block % 2 * 2),
                                 ColumnScales<kColumns>(column_scales + block % 2 * kColumns));
          });
    }
  }
  leave_stage(ring, at.stage);
}

// What a finishing warp does.
template <uint32_t kColumns>
__device__ __forceinline__ void finish_down(const ExpertLaunch& launch, const ExpertDownData& data,
                                            const DownShape& shape, const StreamRole& role,
                                            ExpertExchange<kColumns, kDownRanks>& exchange,
                                            const std::byte* shared) {
  using Exchange = ExpertExchange<kColumns, kDownRanks>;
  const uint32_t num_tiles = role.units(shape.num_units) * kDownTiles;
  const uint32_t present = present_columns(launch);
  uint32_t index = 0;
  for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
    const uint32_t chunk = data.first_chunk + unit / shape.row_groups;
    for (uint32_t tile = 0; tile < kDownTiles; ++tile, ++index) {
      const uint32_t row = unit % shape.row_groups * kDownPageRows + tile * kBlockRows +
                           role.lane / 8 * 16 + role.lane % 8;
      typename Exchange::Sums sums[Exchange::kGroups];
      exchange.take(shared, index, num_tiles, role.finish_warp(), sums);
#pragma unroll
      for (uint32_t i = 0; i < Exchange::kGroups; ++i) {
        const uint32_t column = Exchange::column(i, role.rank, role.finish_warp());
        if (column >= present) continue;
        const uint64_t t = launch.first_column + column;
        float* out = data.partials + (t * program::kReductionChunks + chunk) * launch.hidden + row;
        out[0] = sums[i].first;
        out[8] = sums[i].second;
      }
    }
  }
}

template <uint32_t kColumns, ExpertLaunch::Work kWork>
__global__ void __cluster_dims__(kDownRanks) __launch_bounds__(kStreamThreads, 1)
    expert_down_kernel(const __grid_constant__ ExpertLaunch launch,
                       const __grid_constant__ ExpertDownData data) {
  using Shared = DownShared<kColumns>;
  using Exchange = ExpertExchange<kColumns, kDownRanks>;
  constexpr uint32_t kStages = Shared::kStages;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ RingBarriers<kStages> ring;
  __shared__ Exchange exchange;
  const StreamRole role;
  if (threadIdx.x == 0) {
    ring.init(kConsumerWarps);
    exchange.init();
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::cluster_arrive();
  const DownShape shape(launch);
  if (!role.is_loader_warp()) ptx::cluster_wait();  // before anything is written to other CTAs

  if (role.is_loader()) {
    load_down<kColumns, kStages>(launch, data, shape, role, ring, shared);
  } else if (role.is_consumer()) {
    const std::byte* stages = shared + Shared::kStage;
    RingPosition<kStages> at;
    uint32_t index = 0;
    uint32_t bits = 0;
    for (uint32_t unit = role.cluster; unit < shape.num_units; unit += role.num_clusters) {
      DownSums<kColumns> sums;
      for (uint32_t slot = 0; slot < shape.num_slots; ++slot, at.advance()) {
        add_slot<kColumns, kStages, kWork>(role, ring, stages, at, sums, bits);
      }
      if constexpr (kWork == ExpertLaunch::Work::kProducts) {
#pragma unroll
        for (uint32_t tile = 0; tile < kDownTiles; ++tile) {
          exchange.send(shared, index++, role.rank, role.warpgroup, sums.tiles[tile]);
        }
      }
    }
    if constexpr (kWork == ExpertLaunch::Work::kDrain) {
      keep_bits(bits, reinterpret_cast<std::byte*>(data.partials));
    }
  } else if (role.is_finisher() && kWork == ExpertLaunch::Work::kProducts) {
    finish_down<kColumns>(launch, data, shape, role, exchange, shared);
  }
  if (role.is_loader_warp()) {
    __syncwarp();
    ptx::cluster_wait();
  }
}

}  // namespace ultraspeed::cuda
