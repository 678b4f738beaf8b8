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
inline constexpr uint32_t kFlashThreads = kFlashConsumers + 128;
inline constexpr uint32_t kWarpgroupRows = kFlashRows / kFlashWarpgroups;
// Named barriers: of all consumers; of each warpgroup's turn (this + its number), and of its
// threads (this + threadIdx.x / 128).
inline constexpr uint32_t kConsumerBarrier = 1, kTurnBarrier = 2, kClearBarrier = 4;

// Which columns and heads are the rows of a unit.
struct FlashRows {
  __device__ FlashRows(const FlashShape& shape_in, const FlashUnit& unit_in)
      : shape(shape_in), unit(unit_in) {}

  __device__ uint32_t column(uint32_t row) const {  // within the sequence
    return unit.first_column + (row >> shape.log_group);
  }
  __device__ bool has(uint32_t row) const {
    return row >> shape.log_group < unit.num_columns && (row & (shape.group - 1)) < shape.heads;
  }
  // Of the row's head in [T, num_q_heads].
  __device__ uint64_t head(uint32_t row) const {
    return uint64_t{unit.sequence->first_column + column(row)} * shape.heads * shape.num_kv_heads +
           unit.kv_head * shape.heads + (row & (shape.group - 1));
  }

  const FlashShape& shape;
  const FlashUnit& unit;
};

// For a warpgroup: makes values of a step's slots before `begin`, a multiple of 64, and from `end`
// on zeros, for what lies there may be a NaN, which times a weight of 0 is a NaN. The other
// warpgroup does the same to the same slots.
template <class Tile>
__device__ __forceinline__ void clear_unwritten(std::byte* step, uint32_t begin, uint32_t end) {
  auto* pieces = reinterpret_cast<uint4*>(step + FlashStep<Tile>::kValues);
  constexpr uint32_t kTilePieces = Tile::kValueBytes / 16;
#pragma unroll 1
  for (uint32_t i = threadIdx.x % 128; i < FlashStep<Tile>::kTiles * kTilePieces; i += 128) {
    const uint32_t first = i / kTilePieces * kKvTilePositions +
                           i / 8 % (kKvTilePositions / Tile::kPiece) * Tile::kPiece;
    if (first >= begin && first + Tile::kPiece <= end) continue;
    uint4 piece = pieces[i];
    uint32_t* words[4] = {&piece.x, &piece.y, &piece.z, &piece.w};
#pragma unroll
    for (uint32_t place = 0; place < Tile::kPiece; ++place) {
      constexpr uint32_t kInWord = 4 / Tile::kElementBytes;
      const uint32_t mask = (Tile::kIsE4m3 ? 0xffu : 0xffffu)
                            << place % kInWord * 8 * Tile::kElementBytes;
      const uint32_t slot = first + Tile::position(place);
      if (slot < begin || slot >= end) *words[place / kInWord] &= ~mask;
    }
    pieces[i] = piece;
  }
  ptx::fence_proxy_async();  // partner: the products of this warpgroup
  ptx::named_barrier(kClearBarrier + threadIdx.x / 128, 128);
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

// Waits for all products.
template <uint32_t kCount>
__device__ __forceinline__ void finish_product(float (&d)[kCount]) {
  ptx::wgmma_wait<0>();
#pragma unroll
  for (float& value : d) ptx::wgmma_result(value);
}

// For a whole warp with one value: in a uniform register, as branches around products and their
// descriptors are wanted.
__device__ __forceinline__ uint32_t uniform(uint32_t value) {
  return __shfl_sync(~0u, value, 0);
}
__device__ __forceinline__ uint32_t uniform_address(const void* shared) {
  return uniform(ptx::smem_address(shared));
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
  // Takes the turn that nobody uses: barriers are as before begin().
  __device__ void end() const {
    if (warpgroup == 0) take();
  }
};

// Goes through the steps of a unit. ring, at: where they arrive. end_step_of_unit(): is
// called behind each.
template <class Tile, uint32_t kStages, class EndStep>
__device__ __forceinline__ void attend(const FlashUnit& unit, const std::byte* queries,
                                       std::byte* stages, RingBarriers<kStages>& ring,
                                       RingPosition<kStages>& at, const FlashTurns& turns,
                                       FlashResult<Tile>& result, FlashRange seen_by_all,
                                       const EndStep& end_step_of_unit) {
  using Step = FlashStep<Tile>;
  const uint32_t begin = unit.begin_tile * kKvTilePositions, end = unit.sequence->end;
  const uint32_t query_address = uniform_address(queries);
  const uint32_t begin_step = uniform(unit.begin_step), end_step = uniform(unit.end_step);
#pragma unroll 1
  for (uint32_t i = begin_step; i < end_step; ++i, at.advance()) {
    std::byte* step = stages + at.stage * Step::kBytes;
    const uint32_t step_address = uniform_address(step);
    const uint32_t first = i * Step::kPositions;
    ptx::mbarrier_wait(&ring.full[at.stage], at.parity);
    if (first + Step::kPositions > end || first < begin) {
      clear_unwritten<Tile>(step, max(begin, first) - first, end - first);
    }
    typename Step::Scores scores;
    turns.take();
    start_scores<Tile>(scores, query_address, step_address);
    finish_product(scores);
    turns.give();
    if (first < seen_by_all.begin || first + Step::kPositions > seen_by_all.end) {
      mask_scores(scores, first, result.rows);
    }
    FlashWeights<Tile> weights;
    float factors[2], step_sums[Tile::kValueDim / 2];
    take_weights<Tile>(scores, result.rows, factors, weights);
    start_sums<Tile>(step_sums, weights, step_address);
    finish_product(step_sums);
    leave_stage(ring, at.stage);
    end_step_of_unit();
    result.add(factors, step_sums);
  }
}

// The sum of a quad in the order of its lanes.
__device__ __forceinline__ float quad_sum(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

}  // namespace ultraspeed::cuda
