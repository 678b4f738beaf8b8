// What a CTA of window_attention.cuh attends to, and how it comes to shared memory: blocks of 8
// (bf16) or 16 (e4m3) positions, from the one that has the window's first.
#pragma once

#include <cstdint>

#include "cuda/ops/flash_attention.h"
#include "cuda/ops/step_head.cuh"
#include "cuda/ptx/bulk.cuh"
#include "cuda/tile/kv_tile.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kWindowRows = 16, kWindowWarps = 8, kWindowThreads = kWindowWarps * 32;
inline constexpr uint32_t kWindowTiles = 3;  // of 64 positions that a short window touches, at most
static_assert(kShortWindow <= (kWindowTiles - 1) * kKvTilePositions);

// Its blocks as one tile.
template <class Tile>
using WindowTile = KvTile<Tile::kFormat, Tile::kHeadDim, Tile::kValueDim,
                          kShortWindow / Tile::kPiece * Tile::kPiece + Tile::kPiece>;

// The CTA's column and heads, and what they see.
struct WindowPlace {
  // slab: of [num_kv_heads, ceil(group / 16)].
  __device__ WindowPlace(const FlashAttention& launch, const StepHead& step,
                         uint32_t block_positions, uint32_t of_column, uint32_t slab) {
    const StepColumn& column = step.columns[of_column];
    sequence = column.sequence;
    pages = step.pages + column.first_page;
    group = launch.num_q_heads / launch.cache.num_kv_heads;
    num_q_heads = launch.num_q_heads;
    const uint32_t slabs = (group + kWindowRows - 1) / kWindowRows;
    t = of_column;
    kv_head = slab / slabs;
    first_head = slab % slabs * kWindowRows;
    end = column.position + 1;
    begin = end - min(end, launch.window);
    first_column = column.first_column;
    first_own = launch.rows == nullptr ? end : max(begin, end - 1 - (t - first_column));
    first_block = begin / block_positions;
    num_blocks = (end - 1) / block_positions + 1 - first_block;
    this->block_positions = block_positions;
    scales = launch.cache.scale(kv_head);
    first_tile = begin / kKvTilePositions;
    num_tiles = (end - 1) / kKvTilePositions + 1 - first_tile;
  }

  // Of the CTA's rows.
  __device__ bool has(uint32_t row) const { return first_head + row < group; }
  __device__ uint64_t head(uint32_t row) const {  // in [T, num_q_heads]
    return uint64_t{t} * num_q_heads + kv_head * group + first_head + row;
  }
  __device__ bool is_first_slab() const { return first_head == 0; }

  // Of positions; [begin, end) are visible, [first_own, end) are of the step.
  __device__ uint32_t first_position() const { return first_block * block_positions; }
  __device__ uint32_t column_of(uint32_t position) const { return t + position + 1 - end; }

  uint32_t group, num_q_heads;
  uint32_t t, kv_head, first_head, first_column;
  uint32_t sequence;
  const uint32_t* pages;  // of the sequence
  uint32_t begin, end, first_own;
  uint32_t block_positions, first_block, num_blocks;
  uint32_t first_tile, num_tiles;
  KvScales scales;  // of the KV head
};

// For all warps: has the blocks copied to a WindowTile, each copy by a lane of its own, spread over
// the warps, for those of a warp start one after the other. arrived: counts them, an arrival
// included.
template <class Tile>
__device__ __forceinline__ void load_window(const FlashAttention& launch, const WindowPlace& at,
                                            std::byte* to, uint64_t* arrived) {
  using Own = WindowTile<Tile>;
  constexpr uint32_t kTileBlocks = kKvTilePositions / Tile::kPiece;
  constexpr uint32_t kBlockKeys = Tile::kKeyBytes / kTileBlocks;
  constexpr uint32_t kValueGroups = Tile::kValueDim / 8;
  constexpr uint32_t kTileCopies = kValueGroups + 1;
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(arrived, at.num_blocks * (kBlockKeys + kValueGroups * 128));
  }
  const uint32_t copy = threadIdx.x % 32 * kWindowWarps + threadIdx.x / 32;
  if (copy >= at.num_tiles * kTileCopies) return;
  const uint32_t i = at.first_tile + copy / kTileCopies, group = copy % kTileCopies;
  const uint64_t tile = launch.cache.tile(at.sequence, at.pages, at.kv_head, i);
  const std::byte* from = launch.cache.tiles + tile * Tile::kBytes;
  const uint32_t begin = max(i * kTileBlocks, at.first_block);
  const uint32_t count = min((i + 1) * kTileBlocks, at.first_block + at.num_blocks) - begin;
  const uint32_t of_tile = begin % kTileBlocks, of_window = begin - at.first_block;
  const bool is_key = group == kValueGroups;
  const uint32_t block_bytes = is_key ? kBlockKeys : 128;
  from += (is_key ? 0 : Tile::kValues + group * Tile::kValueStride) + of_tile * block_bytes;
  to += (is_key ? 0 : Own::kValues + group * Own::kValueStride) + of_window * block_bytes;
  ptx::bulk_copy(to, from, count * block_bytes, arrived);
}

}  // namespace ultraspeed::cuda
