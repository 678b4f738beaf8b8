// The kernel of flash_attention.h for short windows. CTA (t, s): column t, and 16 query heads of a
// KV head, slab s of [num_kv_heads, group / 16]. Every step of the softmax is that of
// flash_products.cuh, tile by tile of 64 absolute positions, but all tiles at once:
//   warp w takes scores of position groups w, w + 8, ...; a thread weights of a row and a tile;
//   warp w takes sums of dimensions 16 w .. 16 w + 15, each tile's apart, then adds them in order.
//
// Products are `mma` of bf16, queries and weights in two terms, the small one first; of caches in
// e4m3 they are of f16, which has their codes exactly, with one term of queries and weights.
#pragma once

#include <cstdint>

#include "cuda/ops/kv_rows.cuh"
#include "cuda/ops/window_products.cuh"
#include "cuda/ops/window_tile.cuh"
#include "cuda/ptx/grid.cuh"

namespace ultraspeed::cuda {

template <class Tile>
struct WindowShared {
  using Own = WindowTile<Tile>;
  static constexpr uint32_t kOperand = Own::kBytes;  // of queries, then of weights
  static constexpr uint32_t kScores = kOperand + WindowOperand<Tile>::kBytes;
  static constexpr uint32_t kBytes = kScores + kWindowRows * kScorePitch<Tile> * sizeof(float);
};

// For all warps: rows 2 warp and 2 warp + 1 of the queries' operand, and their scales.
template <class Tile>
__device__ __forceinline__ void make_window_queries(const FlashAttention& launch,
                                                    const WindowPlace& at, std::byte* operand,
                                                    float* scales) {
  constexpr uint32_t kWarpRows = kWindowRows / kWindowWarps;
  const uint32_t first = threadIdx.x / 32 * kWarpRows;
  QueryRow<Tile> rows[kWarpRows];
#pragma unroll
  for (uint32_t i = 0; i < kWarpRows; ++i) {
    if (at.has(first + i)) rows[i].load(launch.query + at.head(first + i) * Tile::kHeadDim);
  }
#pragma unroll
  for (uint32_t i = 0; i < kWarpRows; ++i) {
    const float scale = rows[i].scale(launch.scale * kLog2E);
    if (threadIdx.x % 32 == 0) {
      scales[first + i] = scale * at.scales.key;
    }
    WindowOperand<Tile>::store_query(rows[i], operand, first + i);
  }
}

// For all warps, behind a barrier after the tile's arrival: puts the step's own rows into it, the
// column's own into the cache, too, and zeros for values before the first and behind the last
// position: what lies there, a row that another CTA stores meanwhile or nothing yet, may be a NaN,
// which times a weight of 0 is a NaN. row: the first of the warp's, loaded.
template <class Tile>
__device__ __forceinline__ void put_window_rows(const FlashAttention& launch, const WindowPlace& at,
                                                KvRow<Tile>& row, std::byte* tile) {
  using Own = WindowTile<Tile>;
  for (uint32_t p = at.first_own + threadIdx.x / 32; p < at.end; p += kWindowWarps) {
    if (p >= at.first_own + kWindowWarps) {
      row.load(launch.rows, launch.cache.num_kv_heads, at.column_of(p), at.kv_head);
    }
    row.template store<Own>(tile, p - at.first_position(), at.scales);
    if (p + 1 == at.end && at.is_first_slab()) {
      store_to_cache(row, *launch.step, launch.cache, at.t, at.kv_head);
    }
  }
  const uint32_t begin_slot = at.begin - at.first_position(), visible = at.end - at.begin;
  const uint32_t unseen = at.num_blocks * Tile::kPiece - visible;
  for (uint32_t i = threadIdx.x; i < unseen * Tile::kValueDim; i += kWindowThreads) {
    const uint32_t slot = i / Tile::kValueDim;
    std::byte* to =
        tile + Own::value(slot < begin_slot ? slot : slot + visible, i % Tile::kValueDim);
    if constexpr (Tile::kIsE4m3) {
      *to = std::byte{0};
    } else {
      *reinterpret_cast<uint16_t*>(to) = 0;
    }
  }
}

// Of a thread's rows g and g + 8.
__device__ __forceinline__ void load_sinks(const FlashAttention& launch, const WindowPlace& at,
                                           float (&sinks)[2]) {
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t row = threadIdx.x % 32 / 4 + 8 * i;
    if (launch.sinks == nullptr || !at.has(row)) continue;
    sinks[i] = launch.sinks[at.head(row) % launch.num_q_heads];
  }
}

template <class Tile>
__device__ __forceinline__ void write_window(const FlashAttention& launch, const WindowPlace& at,
                                             const WindowSoftmax& softmax, const float (&sinks)[2],
                                             const float (&sums)[2][4]) {
  const uint32_t warp = threadIdx.x / 32, t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t row = threadIdx.x % 32 / 4 + 8 * i;
    float l = softmax.sum(row, t, at.num_tiles);
    if (!at.has(row)) continue;
    if (launch.sinks != nullptr) {
      l = with_sink<Tile>(l, softmax.largest(row, at.num_tiles), sinks[i]);
    }
    const float factor = l == 0 ? 0.0F : at.scales.value / l;
    float* to = launch.output + at.head(row) * Tile::kValueDim + warp * 16 + 2 * t;
#pragma unroll
    for (uint32_t d = 0; d < 2; ++d) {
      *reinterpret_cast<float2*>(to + 8 * d) = {sums[d][2 * i] * factor,
                                                sums[d][2 * i + 1] * factor};
    }
  }
}

// Two CTAs, or one beside one of dense.h, fit on a multiprocessor.
template <class Tile, FlashAttention::Work kWork>
__global__ void __launch_bounds__(kWindowThreads, 2)
    window_attention_kernel(const __grid_constant__ FlashAttention launch) {
  using Shared = WindowShared<Tile>;
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ uint64_t arrived;
  __shared__ WindowSoftmax softmax;
  ptx::launch_dependents();
  if (launch.rows == nullptr) ptx::wait_for_grids();  // else tiles come first
  if (blockIdx.x >= launch.step->num_columns) return;
  const WindowPlace at(launch, Tile::kPiece);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&arrived, 1);
    ptx::fence_mbarrier_init();
  }
  float sinks[2] = {};
  load_sinks(launch, at, sinks);
  if (threadIdx.x < 32) load_window<Tile>(launch, at, shared, &arrived);
  ptx::wait_for_grids();
  std::byte* operand = shared + Shared::kOperand;
  auto* scores = reinterpret_cast<float*>(shared + Shared::kScores);
  if constexpr (kWork == FlashAttention::Work::kAttention) {
    KvRow<Tile> own;  // the first of the warp's
    const uint32_t p = at.first_own + threadIdx.x / 32;
    if (p < at.end) own.load(launch.rows, launch.cache.num_kv_heads, at.column_of(p), at.kv_head);
    make_window_queries<Tile>(launch, at, operand, softmax.scales);
    __syncthreads();  // the barrier is made
    ptx::mbarrier_wait(&arrived, 0);
    put_window_rows<Tile>(launch, at, own, shared);
    __syncthreads();
    make_scores<Tile>(at, shared, operand, scores);
    __syncthreads();
    make_weights<Tile>(at, scores, operand, softmax);
    __syncthreads();
    float sums[2][4] = {};
    add_values<Tile>(at, shared, operand, softmax, sums);
    write_window<Tile>(launch, at, softmax, sinks, sums);
  } else {
    __syncthreads();  // the barrier is made
    ptx::mbarrier_wait(&arrived, 0);
    const auto* words = reinterpret_cast<const uint4*>(shared);
    uint32_t bits = 0;
    for (uint32_t i = threadIdx.x; i < WindowTile<Tile>::kBytes / 16; i += kWindowThreads) {
      bits ^= words[i].x;
    }
    if (bits == 0x9e3779b9u) *launch.output = 1;  // keeps the reads
  }
}

}  // namespace ultraspeed::cuda
