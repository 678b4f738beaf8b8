// How an attention block cuts its shared memory. A round takes some queries (of columns of one
// sequence and heads that share a KV head) and goes through their keys and values in tiles.
#pragma once

#include <cstdint>

#include "cuda/ops/context.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/softmax_state.cuh"

namespace ultraspeed::cuda {

template <>
inline constexpr uint32_t kSharedBytes<program::AttentionOperands> = 160 * 1024;

// A warp computes the logits of 8 queries and 8 positions, all warps those of one tile.
inline constexpr uint32_t kScoreSide = 8;
inline constexpr uint32_t kTileScores = kTaskWarps * kScoreSide * kScoreSide;
inline constexpr uint32_t kMaxQueries = 32;

struct QueryState {
  uint32_t begin, end;   // visible positions
  uint32_t chunk_count;  // of them, those of the chunk
  float chunk_m, chunk_l;
  SoftmaxState total;
  MergeFactors factors;
};

struct AttentionLayout {
  uint32_t max_queries = 0;      // of a round: 8, 16 or 32
  uint32_t tile_positions = 0;   // max_queries * tile_positions = kTileScores
  uint32_t query_stride = 0;     // in floats; neighbours lie half the banks apart
  uint32_t row_stride = 0;       // of a tile
  uint32_t score_stride = 0;     // of a position's scores
  QueryState* states = nullptr;  // [max_queries]
  uint32_t* rows = nullptr;      // [chunk_positions]
  float* queries = nullptr;      // [max_queries, query_stride]
  float* tiles = nullptr;        // [2, tile_positions, row_stride]
  float* scores = nullptr;       // [chunk_positions, score_stride]
  float* sums = nullptr;         // [max_queries, v_head_dim]

  static US_HOST_DEVICE constexpr uint32_t up(uint32_t a, uint32_t b) {
    return (a + b - 1) / b * b;
  }

  // For rounds of `queries`; returns whether they fit. On the host, `shared` is nullptr.
  US_HOST_DEVICE bool set(const program::AttentionOperands& op, uint32_t queries_in,
                          std::byte* shared) {
    max_queries = queries_in;
    tile_positions = kTileScores / max_queries;
    query_stride = up(op.head_dim, kWarpThreads) + kDotLanes;
    row_stride = up(op.head_dim > op.v_head_dim ? op.head_dim : op.v_head_dim, 4);
    score_stride = max_queries + 4;
    states = reinterpret_cast<QueryState*>(shared);
    rows = reinterpret_cast<uint32_t*>(states + kMaxQueries);
    queries = reinterpret_cast<float*>(rows + up(op.chunk_positions, 4));
    tiles = queries + max_queries * query_stride;
    scores = tiles + 2 * tile_positions * row_stride;
    sums = scores + op.chunk_positions * score_stride;
    const float* end = sums + max_queries * op.v_head_dim;
    return reinterpret_cast<const std::byte*>(end) - shared <=
           kSharedBytes<program::AttentionOperands>;
  }

  // Rounds that hold num_queries, or as many of them as fit. REQUIRES: limit_of() is nullptr.
  __device__ void choose(const program::AttentionOperands& op, uint32_t num_queries,
                         std::byte* shared) {
    uint32_t fitting = 0;
    for (uint32_t size = kScoreSide; size <= kMaxQueries; size *= 2) {
      if (!set(op, size, shared)) continue;
      fitting = size;
      if (size >= num_queries) return;
    }
    set(op, fitting, shared);
  }
};

inline const char* limit_of(const program::AttentionOperands& op, uint32_t) {
  AttentionLayout layout;
  for (uint32_t size = kScoreSide; size <= kMaxQueries; size *= 2) {
    if (layout.set(op, size, nullptr)) return nullptr;
  }
  return "heads of more dimensions than shared memory holds";
}

static_assert(sizeof(QueryState) * kMaxQueries % 16 == 0);

}  // namespace ultraspeed::cuda
