// Attention: softmax over a column's visible positions, chunk by chunk. A query is a head of a
// column.
#pragma once

#include "cuda/ops/attention_layout.cuh"
#include "cuda/ops/key_tile.cuh"
#include "cuda/ops/visible.cuh"

namespace ultraspeed::cuda {

// The score of a position that its query does not see; all others are exponentials, or NaN.
inline constexpr float kUnseen = -1;

// The queries of a round: neighbouring (column, head) pairs of one sequence and one KV head.
class AttentionRound {
 public:
  struct Queries {
    uint32_t first_column, first_head, num_heads;
    uint32_t first, count;  // index = (column - first_column) * num_heads + head - first_head

    __device__ uint32_t column(uint32_t query) const {
      return first_column + (first + query) / num_heads;
    }
    __device__ uint32_t head(uint32_t query) const {
      return first_head + (first + query) % num_heads;
    }
  };

  __device__ AttentionRound(const OpContext& context, const program::AttentionOperands& op,
                            const AttentionLayout& layout, const Queries& queries)
      : context_(context),
        op_(op),
        layout_(layout),
        queries_(queries),
        keys_(context, op, queries.first_column,
              queries.first_head / (op.num_q_heads / op.num_kv_heads)) {}

  __device__ void run() {
    load_queries();
    task_barrier();
    uint32_t begin = layout_.states[0].begin;
    uint32_t end = layout_.states[0].end;
    for (uint32_t query = 1; query < queries_.count; ++query) {
      begin = min(begin, layout_.states[query].begin);
      end = max(end, layout_.states[query].end);
    }
    const uint32_t size = op_.chunk_positions;
    for (uint32_t chunk = begin / size; chunk <= (end - 1) / size; ++chunk) {
      if (op_.num_splits > 1 && chunk % op_.num_splits != context_.task.part) continue;
      begin_ = max(begin, chunk * size);
      count_ = min(end, chunk * size + size) - begin_;
      run_chunk(chunk);
    }
    task_barrier();  // the next round overwrites what this one read
  }

 private:
  __device__ void load_queries() {
    const float* query_heads = context_.buffer(op_.query);
    const float* sinks = context_.vector(op_.sink);
    for (uint32_t query = half_warp(); query < queries_.count; query += kHalfWarps) {
      const uint32_t t = queries_.column(query);
      const uint32_t head = queries_.head(query);
      const float* from = query_heads + (uint64_t{t} * op_.num_q_heads + head) * op_.head_dim;
      for (uint32_t i = dot_lane(); i < op_.head_dim; i += kDotLanes) {
        layout_.queries[query * layout_.query_stride + i] = from[i];
      }
      if (dot_lane() != 0) continue;
      const VisiblePositions visible = visible_positions(context_, op_, t);
      layout_.states[query].begin = visible.begin;
      layout_.states[query].end = visible.end;
      layout_.states[query].total.start(sinks == nullptr ? nullptr : sinks + head);
    }
  }

  // Tiles of keys, then tiles of values; the next one is on its way while one is used.
  __device__ void run_chunk(uint32_t chunk) {
    task_barrier();  // the chunk before is stored
    for (uint32_t i = threadIdx.x; i < count_; i += kTaskThreads) {
      layout_.rows[i] = keys_.row_of(begin_ + i);
    }
    task_barrier();
    const uint32_t num_tiles = (count_ + layout_.tile_positions - 1) / layout_.tile_positions;
    start_copy(0, num_tiles);
    for (uint32_t i = 0; i < 2 * num_tiles; ++i) {
      start_copy(i + 1, num_tiles);
      __pipeline_wait_prior(1);
      task_barrier();
      if (i < num_tiles) {
        add_scores(tile(i), i);
      } else {
        add_values(tile(i), i - num_tiles);
      }
      task_barrier();
      if (i + 1 != num_tiles) continue;
      take_exponentials();
      task_barrier();
    }
    op_.num_splits > 1 ? store_partials(chunk) : merge(chunk);
  }

  __device__ float* tile(uint32_t index) const {
    return layout_.tiles + index % 2 * layout_.tile_positions * layout_.row_stride;
  }
  __device__ uint32_t tile_count(uint32_t index) const {
    return min(layout_.tile_positions, count_ - index * layout_.tile_positions);
  }

  __device__ void start_copy(uint32_t i, uint32_t num_tiles) const {
    if (i < 2 * num_tiles) {
      const uint32_t index = i % num_tiles;
      start_tile_copy(layout_, keys_, op_, layout_.rows + index * layout_.tile_positions,
                      tile_count(index), i >= num_tiles, tile(i));
    }
    __pipeline_commit();
  }

  // The logits of a tile. A half-warp takes every other one of its warp's queries, so that both
  // read the same keys.
  __device__ void add_scores(const float* tile, uint32_t index) const {
    constexpr uint32_t kQueries = kScoreSide / 2;
    constexpr uint32_t kKeys = kDotLanes / kQueries;
    static_assert(2 * kKeys == kScoreSide);
    const uint32_t warp = threadIdx.x / kWarpThreads;
    const uint32_t warps_a_row = layout_.max_queries / kScoreSide;
    const uint32_t query = warp % warps_a_row * kScoreSide + half_warp() % 2;
    const uint32_t first_key = warp / warps_a_row * kScoreSide;
    if (query - half_warp() % 2 >= queries_.count || first_key >= tile_count(index)) return;
    const float* queries = layout_.queries + query * layout_.query_stride;
    const float* keys = tile + first_key * layout_.row_stride;
    float first[kDotLanes] = {};
    float second[kDotLanes] = {};
    for (uint32_t d = dot_lane(); d < op_.head_dim; d += kDotLanes) {
      float q[kQueries];
#pragma unroll
      for (uint32_t i = 0; i < kQueries; ++i) q[i] = queries[2 * i * layout_.query_stride + d];
#pragma unroll
      for (uint32_t k = 0; k < kKeys; ++k) {
        const float low = keys[k * layout_.row_stride + d];
        const float high = keys[(k + kKeys) * layout_.row_stride + d];
#pragma unroll
        for (uint32_t i = 0; i < kQueries; ++i) {
          first[i * kKeys + k] = fmaf(low, q[i], first[i * kKeys + k]);
          second[i * kKeys + k] = fmaf(high, q[i], second[i * kKeys + k]);
        }
      }
    }
    const float low = half_warp_trees(first) * op_.scale;
    const float high = half_warp_trees(second) * op_.scale;
    const uint32_t key = first_key + dot_lane() % kKeys;
    float* scores = layout_.scores + query + 2 * (dot_lane() / kKeys);
    const uint32_t position = index * layout_.tile_positions + key;
    if (position < count_) scores[position * layout_.score_stride] = low;
    if (position + kKeys < count_) scores[(position + kKeys) * layout_.score_stride] = high;
  }

  // From logits to exponentials, their largest and sum; a half-warp a query.
  __device__ void take_exponentials() const {
    for (uint32_t first = half_warp() / 2 * 2; first < queries_.count; first += kHalfWarps) {
      const uint32_t query = first + half_warp() % 2;
      uint32_t begin = 0, end = 0;
      if (query < queries_.count) {
        const QueryState& state = layout_.states[query];
        begin = min(max(state.begin, begin_), begin_ + count_) - begin_;
        end = max(min(state.end, begin_ + count_), begin_ + begin) - begin_;
      }
      float* scores = layout_.scores + query;
      const uint32_t stride = layout_.score_stride;
      float most = minus_infinity();
      for (uint32_t i = begin + dot_lane(); i < end; i += kDotLanes) {
        most = fmaxf(most, scores[i * stride]);
      }
#pragma unroll
      for (uint32_t width = kDotLanes / 2; width > 0; width /= 2) {
        most = fmaxf(most, __shfl_xor_sync(kWholeWarp, most, width));
      }
      float sum = 0;
      for (uint32_t i = begin + dot_lane(); i < end; i += kDotLanes) {
        const float exponential = exp_f32(scores[i * stride] - most);
        scores[i * stride] = exponential;
        sum += exponential;
      }
      sum = half_warp_tree(sum);
      if (query >= queries_.count) continue;
      for (uint32_t i = dot_lane(); i < count_; i += kDotLanes) {
        if (i < begin || i >= end) scores[i * stride] = kUnseen;
      }
      if (dot_lane() == 0) finish_chunk(&layout_.states[query], end - begin, most, sum);
    }
  }

  __device__ static void finish_chunk(QueryState* state, uint32_t count, float m, float l) {
    state->chunk_count = count;
    state->chunk_m = m;
    state->chunk_l = l;
    if (count > 0) state->factors = state->total.merge(m, l);
  }

  // sums += exponentials * values, positions in order; a thread has one dimension of 8 queries.
  __device__ void add_values(const float* tile, uint32_t index) const {
    const uint32_t size = op_.v_head_dim;
    const uint32_t groups = (queries_.count + kScoreSide - 1) / kScoreSide;
    const uint32_t first_position = index * layout_.tile_positions;
    for (uint32_t item = threadIdx.x; item < groups * size; item += kTaskThreads) {
      const uint32_t query = item / size * kScoreSide;
      const float* values = tile + item % size;
      const float* scores = layout_.scores + first_position * layout_.score_stride + query;
      float* to = layout_.sums + query * size + item % size;
      float sums[kScoreSide];
#pragma unroll
      for (uint32_t i = 0; i < kScoreSide; ++i) sums[i] = index == 0 ? 0.0F : to[i * size];
#pragma unroll 4
      for (uint32_t p = 0; p < tile_count(index); ++p) {
        const float value = values[p * layout_.row_stride];
        const auto* row = reinterpret_cast<const float4*>(scores + p * layout_.score_stride);
        const float4 low = row[0];
        const float4 high = row[1];
        add_seen(low.x, value, &sums[0]);
        add_seen(low.y, value, &sums[1]);
        add_seen(low.z, value, &sums[2]);
        add_seen(low.w, value, &sums[3]);
        add_seen(high.x, value, &sums[4]);
        add_seen(high.y, value, &sums[5]);
        add_seen(high.z, value, &sums[6]);
        add_seen(high.w, value, &sums[7]);
      }
#pragma unroll
      for (uint32_t i = 0; i < kScoreSide; ++i) to[i * size] = sums[i];
    }
  }

  __device__ static void add_seen(float exponential, float value, float* sum) {
    if (!(exponential < 0)) *sum = fmaf(exponential, value, *sum);
  }

  // Calls function(query, d, sum) for what the chunk has of each query.
  template <class Function>
  __device__ void for_each_sum(const Function& function) const {
    const uint32_t size = op_.v_head_dim;
    for (uint32_t i = threadIdx.x; i < queries_.count * size; i += kTaskThreads) {
      const uint32_t query = i / size;
      if (layout_.states[query].chunk_count > 0) function(query, i % size, layout_.sums[i]);
    }
  }

  __device__ uint64_t output_head(uint32_t query) const {
    return uint64_t{queries_.column(query)} * op_.num_q_heads + queries_.head(query);
  }

  // A chunk's own place: [v_head_dim] o, m, l.
  __device__ void store_partials(uint32_t chunk) const {
    const uint64_t size = op_.v_head_dim + 2;
    for_each_sum([&](uint32_t query, uint32_t d, float sum) {
      const QueryState& state = layout_.states[query];
      float* to =
          context_.buffer(op_.output) + (output_head(query) * op_.max_chunks + chunk) * size;
      to[d] = sum;
      if (d != 0) return;
      to[op_.v_head_dim] = state.chunk_m;
      to[op_.v_head_dim + 1] = state.chunk_l;
    });
  }

  // Into the output, which holds the chunks before; a thread finds its own there.
  __device__ void merge(uint32_t chunk) const {
    for_each_sum([&](uint32_t query, uint32_t d, float sum) {
      const QueryState& state = layout_.states[query];
      float* to = context_.buffer(op_.output) + output_head(query) * op_.v_head_dim + d;
      const float before = chunk == state.begin / op_.chunk_positions ? 0.0F : *to;
      const float value = before * state.factors.mine + sum * state.factors.others;
      const bool is_last = chunk == (state.end - 1) / op_.chunk_positions;
      *to = is_last ? value / state.total.l : value;
    });
  }

  const OpContext& context_;
  const program::AttentionOperands& op_;
  const AttentionLayout& layout_;
  const Queries queries_;
  const KeyRows keys_;
  uint32_t begin_ = 0, count_ = 0;  // the chunk's positions that any of the queries sees
};

inline __device__ void run_op(const OpContext& context, const program::AttentionOperands& op) {
  const uint32_t group_size = op.num_q_heads / op.num_kv_heads;
  for (uint32_t t = 0; t < context.num_columns(); t = context.column(t).end_column) {
    const uint32_t num_columns = context.column(t).end_column - t;
    for (uint32_t head = context.task.row_begin; head < context.row_end();) {
      const uint32_t end = min((head / group_size + 1) * group_size, context.row_end());
      const uint32_t num_queries = num_columns * (end - head);
      AttentionLayout layout;
      layout.choose(op, num_queries, context.shared_memory);
      for (uint32_t first = 0; first < num_queries; first += layout.max_queries) {
        const uint32_t count = min(layout.max_queries, num_queries - first);
        AttentionRound(context, op, layout, {t, head, end - head, first, count}).run();
      }
      head = end;
    }
  }
}

}  // namespace ultraspeed::cuda
