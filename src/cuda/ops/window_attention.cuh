// The kernel of flash_attention.h for short windows. CTA (t, s): column t, and 16 query heads of a
// KV head, slab s of [num_kv_heads, ceil(group / 16)]. Every step of the softmax is that of
// flash_products.cuh, tile by tile of 64 absolute positions, but all tiles at once:
//   warp w takes scores of position groups w, w + 6, ...; a thread weights of a row and a tile;
//   warp w takes sums of dimensions 16 w .. 16 w + 15, each tile's apart, then adds them in order.
// What it costs is instructions, each fetched and issued: so it is loops, without branches that a
// clamped index saves, and no warp does more than its share.
//
// Products are `mma` of bf16, queries and weights in two terms, the small one first; of caches in
// e4m3 they are of f16, which has their codes exactly, with one term of queries and weights.
#pragma once

#include <cstdint>

#include "cuda/ops/window_products.cuh"
#include "cuda/ops/window_tile.cuh"
#include "cuda/ptx/grid.cuh"
#include "cuda/ptx/warpgroup.cuh"
#include "cuda/tile/keep_bits.cuh"
#include "cuda/tile/kv_store.cuh"

namespace ultraspeed::cuda {

// Of the threads of a window, the first ones of a CTA.
__device__ __forceinline__ void window_barrier() {
  ptx::named_barrier(1, kWindowThreads);
}

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
    const uint32_t head_dim = launch.cache.head_dim;
    if (at.has(first + i)) rows[i].load(launch.query + at.head(first + i) * head_dim, head_dim);
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

// The position whose row a warp is the first to put: the column's own is the last warp's.
__device__ __forceinline__ uint32_t first_window_row(const WindowPlace& at) {
  return at.end - kWindowWarps + threadIdx.x / 32;  // modulo 2^32
}
__device__ __forceinline__ bool has_window_row(const WindowPlace& at, uint32_t position) {
  return position - at.first_own < at.end - at.first_own;  // modulo 2^32
}

// For all warps, after the tile's arrival: puts the step's own rows into it, and zeros for values
// before the first and behind the last position: what lies there, a row that another CTA stores
// meanwhile or nothing yet, may be a NaN, which times a weight of 0 is a NaN. row: the first of the
// warp's, loaded.
template <class Tile>
__device__ __forceinline__ void put_window_rows(const FlashAttention& launch, const WindowPlace& at,
                                                const KvRow<Tile>& row, std::byte* tile) {
  using Own = WindowTile<Tile>;
  KvRow<Tile> next = row;
  uint32_t p = first_window_row(at);
  bool has_next = has_window_row(at, p);
#pragma unroll 1
  while (has_next) {
    next.template store<Own>(tile, p - at.first_position(), at.scales);
    p -= kWindowWarps;
    has_next = has_window_row(at, p);
    if (has_next) {
      next.load(launch.rows, launch.cache, at.column_of(p), at.kv_head);
    }
  }
  const uint32_t begin_slot = at.begin - at.first_position(), visible = at.end - at.begin;
  const uint32_t unseen = at.num_blocks * Tile::kPiece - visible;
#pragma unroll 1
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
    sinks[i] = launch.sinks[at.kv_head * at.group + at.first_head + row];
  }
}

// Puts the tiles' sums together and writes outputs: output(row) is where a row's lie, output.size()
// how many dimensions it has room for.
template <class Tile, class Output>
__device__ __forceinline__ void write_window(const FlashAttention& launch, const WindowPlace& at,
                                             const WindowSoftmax& softmax, const float (&sinks)[2],
                                             const WindowSums& of_tiles, const Output& output) {
  const uint32_t warp = threadIdx.x / 32, t = threadIdx.x % 4;
#pragma unroll
  for (uint32_t i = 0; i < 2; ++i) {
    const uint32_t row = threadIdx.x % 32 / 4 + 8 * i;
    const WindowRow of_row(softmax, row);
    float l = of_row.sum(softmax, row, t);
    if (!at.has(row)) continue;
    if (launch.sinks != nullptr) l = with_sink<Tile>(l, of_row.most, sinks[i]);
    const float factor = l == 0 ? 0.0F : at.scales.value / l;
    float* to = output(row) + warp * 16 + 2 * t;
#pragma unroll
    for (uint32_t d = 0; d < 2; ++d) {
      if (warp * 16 + 8 * d >= output.size()) continue;
      float sums[2] = {};
#pragma unroll
      for (uint32_t tile = 0; tile < kWindowTiles; ++tile) {
        sums[0] = fmaf(sums[0], of_row.factors[tile], of_tiles[tile][d][2 * i]);
        sums[1] = fmaf(sums[1], of_row.factors[tile], of_tiles[tile][d][2 * i + 1]);
      }
      *reinterpret_cast<float2*>(to + 8 * d) = {sums[0] * factor, sums[1] * factor};
    }
  }
}

// From tile and queries to outputs. own: the warp's first row; the last warp's goes to the cache.
template <class Tile, class Output>
__device__ __forceinline__ void attend_to_window(const FlashAttention& launch,
                                                 const WindowPlace& at, const KvRow<Tile>& own,
                                                 std::byte* shared, WindowSoftmax& softmax,
                                                 const float (&sinks)[2], const Output& output) {
  std::byte* operand = shared + WindowShared<Tile>::kOperand;
  auto* scores = reinterpret_cast<float*>(shared + WindowShared<Tile>::kScores);
  const uint32_t warp = threadIdx.x / 32;
  if (warp < kScoreWarps) {
    make_scores<Tile>(at, shared, operand, scores);
  } else if (warp == kWindowWarps - 1 && at.first_own < at.end && at.is_first_slab()) {
    const uint64_t to =
        launch.cache.tile(at.sequence, at.pages, at.kv_head, (at.end - 1) / kKvTilePositions);
    own.store(launch.cache.tiles + to * Tile::kBytes, (at.end - 1) % kKvTilePositions, at.scales);
  }
  window_barrier();  // scores are made, and the operand is free
  const WeightPlace of;
  float values[2 * kTileGroups];
  if (warp < kWeightWarps) take_scores<Tile>(at, of, scores, values, softmax);
  window_barrier();  // the largest exponents are known
  if (warp < kWeightWarps) store_weights<Tile>(of, values, operand, softmax);
  window_barrier();  // weights are made
  WindowSums sums = {};
  multiply_values<Tile>(at, shared, operand, sums);
  write_window<Tile>(launch, at, softmax, sinks, sums, output);
}

// From the cache to outputs. arrived: counts the tile's bytes in its phase of `parity`. await():
// what launches before wrote, but to tiles, may be read behind it. output: where values go; the
// scores in `shared` are not needed by then.
template <class Tile, FlashAttention::Work kWork, class Await, class Output>
__device__ __forceinline__ void run_window(const FlashAttention& launch, const WindowPlace& at,
                                           std::byte* shared, uint64_t* arrived, uint32_t parity,
                                           WindowSoftmax& softmax, const Await& await,
                                           const Output& output) {
  using Shared = WindowShared<Tile>;
  load_window<Tile>(launch, at, shared, arrived);
  float sinks[2] = {};
  load_sinks(launch, at, sinks);
  await();
  if constexpr (kWork == FlashAttention::Work::kAttention) {
    KvRow<Tile> own = {};
    const uint32_t p = first_window_row(at);
    if (has_window_row(at, p)) {
      own.load(launch.rows, launch.cache, at.column_of(p), at.kv_head);
    }
    make_window_queries<Tile>(launch, at, shared + Shared::kOperand, softmax.scales);
    ptx::mbarrier_wait(arrived, parity);
    put_window_rows<Tile>(launch, at, own, shared);
    window_barrier();  // the tile and the queries are there
    attend_to_window<Tile>(launch, at, own, shared, softmax, sinks, output);
  } else {
    ptx::mbarrier_wait(arrived, parity);
    const auto* words = reinterpret_cast<const uint4*>(shared);
    uint32_t bits = 0;
    for (uint32_t i = threadIdx.x; i < WindowTile<Tile>::kBytes / 16; i += kWindowThreads) {
      bits ^= words[i].x;
    }
    keep_bits(bits, launch.output);
  }
}

struct WindowOutput {
  __device__ float* operator()(uint32_t row) const {
    return launch.output + at.head(row) * launch.cache.v_head_dim;
  }
  __device__ uint32_t size() const { return launch.cache.v_head_dim; }

  const FlashAttention& launch;
  const WindowPlace& at;
};

// Two CTAs, or one beside one of dense.h, fit on a multiprocessor.
template <class Tile, FlashAttention::Work kWork>
__global__ void __launch_bounds__(kWindowThreads, 2)
    window_attention_kernel(const __grid_constant__ FlashAttention launch) {
  extern __shared__ __align__(128) std::byte shared[];
  __shared__ uint64_t arrived;
  __shared__ WindowSoftmax softmax;
  ptx::launch_dependents();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&arrived, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();                                    // the barrier is made
  if (launch.rows == nullptr) ptx::wait_for_grids();  // else tiles come first
  const StepHead step(launch.step);
  if (blockIdx.x >= step.num_columns) return;
  const WindowPlace at(launch, step, Tile::kPiece, blockIdx.x, blockIdx.y);
  run_window<Tile, kWork>(
      launch, at, shared, &arrived, 0, softmax, [] { ptx::wait_for_grids(); },
      WindowOutput{launch, at});
}

}  // namespace ultraspeed::cuda
