// What a consumer warpgroup of flash_attention.h does with its 64 rows of a unit.
#pragma once

#include <cstdint>

#include "cuda/ops/flash_plan.cuh"
#include "cuda/ops/flash_products.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/counter.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/ptx/warpgroup.cuh"
#include "cuda/tile/page_ring.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kFlashWarpgroups = 2, kFlashConsumers = kFlashWarpgroups * 128;
inline constexpr uint32_t kFlashThreads = 128 + kFlashConsumers;
inline constexpr uint32_t kWarpgroupRows = kFlashRows / kFlashWarpgroups;
// Named barriers: of all consumers, and of each warpgroup's turn (this + its number).
inline constexpr uint32_t kConsumerBarrier = 1, kTurnBarrier = 2;

// Which columns and heads are the rows of a unit.
struct FlashRows {
  __device__ FlashRows(const FlashShape& shape_in, const FlashUnit& unit_in)
      : shape(shape_in), unit(unit_in) {}

  __device__ uint32_t column(uint32_t row) const {  // within the sequence
    return unit.first_column + (row >> shape.log_group);
  }
  __device__ bool has(uint32_t row) const { return row >> shape.log_group < unit.num_columns; }
  // Of the row's head in [T, num_q_heads].
  __device__ uint64_t head(uint32_t row) const {
    return uint64_t{unit.sequence->first_column + column(row)} * shape.group * shape.num_kv_heads +
           unit.kv_head * shape.group + (row & (shape.group - 1));
  }

  const FlashShape& shape;
  const FlashUnit& unit;
};

// For all consumers: makes values of a tile's slots from `count` on zeros, for what lies there may
// be a NaN, which times a weight of 0 is a NaN.
template <class Tile>
__device__ __forceinline__ void clear_unwritten(std::byte* tile, uint32_t count) {
  const uint32_t thread = threadIdx.x - (kFlashThreads - kFlashConsumers);
  auto* pieces = reinterpret_cast<uint4*>(tile + Tile::kValues);
  for (uint32_t i = thread; i < Tile::kValueBytes / 16; i += kFlashConsumers) {
    const uint32_t first = i / 8 % (kKvTilePositions / Tile::kPiece) * Tile::kPiece;
    if (first + Tile::kPiece <= count) continue;
    uint4 piece = pieces[i];
    uint32_t* words[4] = {&piece.x, &piece.y, &piece.z, &piece.w};
#pragma unroll
    for (uint32_t place = 0; place < Tile::kPiece; ++place) {
      constexpr uint32_t kInWord = 4 / Tile::kElementBytes;
      const uint32_t mask = (Tile::kIsE4m3 ? 0xffu : 0xffffu)
                            << place % kInWord * 8 * Tile::kElementBytes;
      if (first + Tile::position(place) >= count) *words[place / kInWord] &= ~mask;
    }
    pieces[i] = piece;
  }
  ptx::fence_proxy_async();  // partner: the products of both warpgroups
  ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
}

// A thread's part of the result of a unit: rows g and g + 8 of its warp's 16.
template <class Tile>
struct FlashResult {
  FlashRow rows[2];
  float sums[Tile::kValueDim / 2];

  __device__ __forceinline__ void add(const float (&factors)[2],
                                      const float (&of_tile)[Tile::kValueDim / 2]) {
#pragma unroll
    for (uint32_t i = 0; i < Tile::kValueDim / 2; ++i) {
      sums[i] = fmaf(sums[i], factors[i / 2 % 2], of_tile[i]);
    }
  }
};

// Waits for all products but those of the kPending groups closed last; d is of one that is done.
template <uint32_t kPending = 0, uint32_t kCount>
__device__ __forceinline__ void finish_product(float (&d)[kCount]) {
  ptx::wgmma_wait<kPending>();
#pragma unroll
  for (float& value : d) ptx::wgmma_result(value);
}

// Lets the warpgroups compute scores in turns, so that the products of one run while the other
// makes weights.
struct FlashTurns {
  uint32_t warpgroup;

  // Warpgroup 0 is first. Each warpgroup takes as many turns as the other.
  __device__ void begin() const {
    if (warpgroup == 1) ptx::named_barrier_arrive(kTurnBarrier, kFlashConsumers);
  }
  __device__ void take() const { ptx::named_barrier(kTurnBarrier + warpgroup, kFlashConsumers); }
  __device__ void give() const {
    ptx::named_barrier_arrive(kTurnBarrier + (warpgroup ^ 1), kFlashConsumers);
  }
};

// Goes through the tiles of a unit. ring, at: where they arrive.
template <class Tile, uint32_t kStages>
__device__ __forceinline__ void attend(const FlashUnit& unit, const std::byte* queries,
                                       std::byte* stages, RingBarriers<kStages>& ring,
                                       RingPosition<kStages>& at, const FlashTurns& turns,
                                       FlashResult<Tile>& result, FlashRange seen_by_all) {
  float scores[kScoreRegisters];
  float tile_sums[Tile::kValueDim / 2];
  float factors[2] = {}, next_factors[2];
  FlashWeights<Tile> weights = {};
  const uint32_t end = unit.sequence->end;
  const auto await_tile = [&](uint32_t i) {
    std::byte* tile = stages + at.stage * Tile::kBytes;
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    if ((i + 1) * kKvTilePositions > end) clear_unwritten<Tile>(tile, end - i * kKvTilePositions);
    return tile;
  };
  // The first turn has no sums to add yet: zeros times the values of its own tile.
  const std::byte* before = nullptr;
  uint32_t stage_before = 0;
  for (uint32_t i = unit.begin_tile; i < unit.end_tile; ++i) {
    const bool is_first = i == unit.begin_tile;
    const uint32_t first = i * kKvTilePositions;
    const std::byte* tile = await_tile(i);
    turns.take();
    start_scores<Tile>(scores, queries, tile);
    start_sums<Tile>(tile_sums, weights, is_first ? tile : before);
    finish_product<1>(scores);
    turns.give();
    if (first < seen_by_all.begin || first + kKvTilePositions > seen_by_all.end) {
      mask_scores(scores, first, result.rows);
    }
    take_weights<Tile>(scores, result.rows, next_factors);
    finish_product(tile_sums);
    if (!is_first) leave_stage(ring, stage_before);
    result.add(factors, tile_sums);
    weights.pack(scores);
    factors[0] = next_factors[0];
    factors[1] = next_factors[1];
    before = tile;
    stage_before = at.stage;
    at.advance();
  }
  start_sums<Tile>(tile_sums, weights, before);
  finish_product(tile_sums);
  leave_stage(ring, stage_before);
  result.add(factors, tile_sums);
}

// The sum of a quad in the order of its lanes.
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

}  // namespace ultraspeed::cuda
