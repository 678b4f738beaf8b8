// Attention: softmax over a column's visible positions, chunk by chunk.
#include <algorithm>
#include <array>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/softmax_state.h"
#include "cpu/ops/visible.h"

namespace ultraspeed::cpu {
namespace {

using program::AttentionOperands;

// So many heads and columns share the loads of a key or value.
constexpr uint32_t kMaxHeads = 8;
constexpr uint32_t kMaxColumns = 8;

// Heads that share a KV head, of columns at neighbouring positions of a sequence.
struct Tile {
  uint32_t first_column, num_columns;
  uint32_t first_head, num_heads;
};

// Positions [begin, end).
struct Range {
  uint32_t begin, end;
};

// A tile chunk by chunk. A query is a head of a column, [num_columns, num_heads] of them. What one
// gives does not depend on the tile: of the positions that others see it takes nothing.
class TileAttention {
 public:
  TileAttention(const OpContext& context, const AttentionOperands& op, const Tile& tile)
      : context_(context),
        op_(op),
        tile_(tile),
        kv_head_(tile.first_head / (op.num_q_heads / op.num_kv_heads)),
        cache_(context.cache(op.cache)) {
    queries_ = context.scratch->floats(kQueries, num_queries() * size_t{op.head_dim});
    const float* query = context.buffer(op.query);
    const size_t size = size_t{tile.num_heads} * op.head_dim;
    for (uint32_t i = 0; i < tile.num_columns; ++i) {
      const uint64_t t = tile.first_column + i;
      visible_[i] = visible_positions(context, op, tile.first_column + i);
      std::copy_n(query + (t * op.num_q_heads + tile.first_head) * op.head_dim, size,
                  queries_ + i * size);
    }
  }

  uint32_t num_queries() const { return tile_.num_columns * tile_.num_heads; }
  uint32_t first_chunk() const { return visible_[0].begin / op_.chunk_positions; }
  uint32_t last_chunk() const {
    return (visible_[tile_.num_columns - 1].end - 1) / op_.chunk_positions;
  }

  // Whether a column sees something of a chunk.
  bool is_visible(uint32_t column, uint32_t chunk) const {
    const Range range = range_of(column, chunk);
    return range.begin < range.end;
  }

  // The chunk's largest logit, sum of exponentials and weighted values of each query that sees some
  // of it; their `o` lie one behind the other.
  void run_chunk(uint32_t chunk, SoftmaxState* states) const {
    const Columns columns = columns_of(chunk);
    const Scores scores = dot_products(columns);
    const uint32_t heads = tile_.num_heads;
    for (uint32_t column = columns.first; column < columns.end; ++column) {
      const Range range = range_of(column, chunk);
      const uint32_t count = range.end - range.begin;
      for (uint32_t query = column * heads; query < (column + 1) * heads; ++query) {
        float* logits = scores.at(query, range.begin);
        for (uint32_t i = 0; i < count; ++i) logits[i] *= op_.scale;
        states[query].start(nullptr, op_.v_head_dim);
        states[query].m = largest(logits, count);
        states[query].l = exp_and_sum(logits, states[query].m, count, logits);
      }
    }
    // Ascending for each column: what it sees before, of and after the positions that all see.
    for (uint32_t column = columns.first; column < columns.end; ++column) {
      const Range range = range_of(column, chunk);
      add_values({range.begin, std::min(range.end, columns.shared.begin)}, scores, column,
                 column + 1, states);
    }
    add_values(columns.shared, scores, columns.first, columns.end, states);
    for (uint32_t column = columns.first; column < columns.end; ++column) {
      const Range range = range_of(column, chunk);
      add_values({std::max(range.begin, columns.shared.end), range.end}, scores, column, column + 1,
                 states);
    }
  }

 private:
  // The columns [first, end) that see some of a chunk, the positions that one of them sees, and
  // those that all of them see.
  struct Columns {
    uint32_t first, end;
    Range seen, shared;
  };

  struct Scores {
    float* first;  // of query 0 at position `begin`
    uint32_t begin, stride;

    float* at(uint32_t query, uint32_t position) const {
      return first + size_t{query} * stride + (position - begin);
    }
  };

  // Keys and values of neighbouring positions that lie together.
  struct Run {
    uint32_t position;
    FloatRows keys, values;
  };

  // The positions of a chunk that a column sees. Both ends ascend with the columns.
  Range range_of(uint32_t column, uint32_t chunk) const {
    const uint32_t begin = chunk * op_.chunk_positions;
    return {std::max(visible_[column].begin, begin),
            std::min(visible_[column].end, begin + op_.chunk_positions)};
  }

  Columns columns_of(uint32_t chunk) const {
    Columns columns{0, tile_.num_columns, {}, {}};
    while (!is_visible(columns.first, chunk)) ++columns.first;
    while (!is_visible(columns.end - 1, chunk)) --columns.end;
    const Range first = range_of(columns.first, chunk);
    const Range last = range_of(columns.end - 1, chunk);
    columns.seen = {first.begin, last.end};
    columns.shared = {last.begin, std::max(last.begin, first.end)};
    return columns;
  }

  // Of the columns with all that one of them sees.
  Scores dot_products(const Columns& columns) const {
    const uint32_t stride = columns.seen.end - columns.seen.begin;
    const Scores scores{context_.scratch->floats(kScores, size_t{num_queries()} * stride),
                        columns.seen.begin, stride};
    const uint32_t query = columns.first * tile_.num_heads;
    const uint32_t count = (columns.end - columns.first) * tile_.num_heads;
    for_each_run(columns.seen, [&](const Run& run) {
      dot_rows(run.keys, queries_ + size_t{query} * op_.head_dim, op_.head_dim, count,
               scores.at(query, run.position), stride);
    });
    return scores;
  }

  // Adds the weighted values of a range, which may be empty, to the queries of columns
  // [first, end).
  void add_values(const Range& range, const Scores& scores, uint32_t first, uint32_t end,
                  SoftmaxState* states) const {
    const uint32_t query = first * tile_.num_heads;
    for_each_run(range, [&](const Run& run) {
      add_weighted_rows(run.values, scores.at(query, run.position), scores.stride,
                        (end - first) * tile_.num_heads, states[query].o, op_.v_head_dim);
    });
  }

  // A range in runs: those of the cache, then the step's own of a draft block.
  template <class Function>
  void for_each_run(const Range& range, Function function) const {
    uint32_t cache_end = range.end;
    if (op_.is_draft_block != 0) cache_end = std::min(cache_end, visible_[0].step_begin);
    uint32_t position = range.begin;
    while (position < cache_end) {
      const uint32_t count =
          std::min(cache_end - position, context_.contiguous_positions(op_.cache, position));
      function(cached_run(position, count));
      position += count;
    }
    if (position < range.end) function(block_run(position, range.end - position));
  }

  Run cached_run(uint32_t position, uint32_t count) const {
    const uint32_t sequence = context_.input.columns[tile_.first_column].sequence;
    const uint64_t row = context_.cache_index(op_.cache, sequence, position);
    const uint64_t head = row * op_.num_kv_heads + kv_head_;
    const size_t heads = op_.num_kv_heads;
    return {position,
            {&cache_.keys[head * op_.head_dim], heads * op_.head_dim, count, op_.head_dim},
            {&cache_.values[head * op_.v_head_dim], heads * op_.v_head_dim, count, op_.v_head_dim}};
  }

  // A row has the k heads, then the v heads.
  Run block_run(uint32_t position, uint32_t count) const {
    const size_t stride = size_t{op_.num_kv_heads} * (op_.head_dim + op_.v_head_dim);
    const uint64_t t = visible_[0].first_column + (position - visible_[0].step_begin);
    const float* row = context_.buffer(op_.cache_rows) + t * stride;
    const float* values = row + size_t{op_.num_kv_heads} * op_.head_dim;
    return {position,
            {row + size_t{kv_head_} * op_.head_dim, stride, count, op_.head_dim},
            {values + size_t{kv_head_} * op_.v_head_dim, stride, count, op_.v_head_dim}};
  }

  const OpContext& context_;
  const AttentionOperands& op_;
  Tile tile_;
  uint32_t kv_head_;
  float* queries_;  // [num_columns, num_heads, head_dim]
  const Cache& cache_;
  std::array<VisiblePositions, kMaxColumns> visible_;
};

using States = std::array<SoftmaxState, size_t{kMaxColumns} * kMaxHeads>;

// The states of queries, their `o` one behind the other from `first` on.
States states_at(float* first, size_t size) {
  States states;
  for (size_t i = 0; i < states.size(); ++i) states[i].o = first + i * size;
  return states;
}

void whole_tile(const OpContext& context, const AttentionOperands& op, const Tile& tile) {
  const TileAttention attention(context, op, tile);
  const float* sinks = context.vector(op.sink);
  const size_t size = op.v_head_dim;
  float* results = context.scratch->floats(kResults, 2 * attention.num_queries() * size);
  States total = states_at(results, size);
  States part = states_at(results + attention.num_queries() * size, size);
  const auto for_each_query = [&](auto function) {
    for (uint32_t i = 0; i < attention.num_queries(); ++i) {
      function(i, i / tile.num_heads, tile.first_head + i % tile.num_heads);
    }
  };
  for_each_query([&](uint32_t i, uint32_t, uint32_t head) {
    total[i].start(sinks == nullptr ? nullptr : sinks + head, op.v_head_dim);
  });
  for (uint32_t chunk = attention.first_chunk(); chunk <= attention.last_chunk(); ++chunk) {
    attention.run_chunk(chunk, part.data());
    for_each_query([&](uint32_t i, uint32_t column, uint32_t) {
      if (!attention.is_visible(column, chunk)) return;
      total[i].merge(part[i].m, part[i].l, part[i].o, op.v_head_dim);
    });
  }
  float* output = context.buffer(op.output);
  for_each_query([&](uint32_t i, uint32_t column, uint32_t head) {
    const uint64_t t = tile.first_column + column;
    total[i].finish(op.v_head_dim, output + (t * op.num_q_heads + head) * size);
  });
}

// This split's chunks, each to its own place: [v_head_dim] o, m, l.
void split_tile(const OpContext& context, const AttentionOperands& op, const Tile& tile) {
  const TileAttention attention(context, op, tile);
  float* results =
      context.scratch->floats(kResults, attention.num_queries() * size_t{op.v_head_dim});
  States states = states_at(results, op.v_head_dim);
  for (uint32_t chunk = attention.first_chunk(); chunk <= attention.last_chunk(); ++chunk) {
    if (chunk % op.num_splits != context.task.part) continue;
    attention.run_chunk(chunk, states.data());
    for (uint32_t i = 0; i < attention.num_queries(); ++i) {
      if (!attention.is_visible(i / tile.num_heads, chunk)) continue;
      const uint64_t t = tile.first_column + i / tile.num_heads;
      const uint64_t head = t * op.num_q_heads + tile.first_head + i % tile.num_heads;
      float* partial = context.buffer(op.output) +
                       (head * op.max_chunks + chunk) * (op.v_head_dim + uint64_t{2});
      std::copy_n(states[i].o, op.v_head_dim, partial);
      partial[op.v_head_dim] = states[i].m;
      partial[op.v_head_dim + 1] = states[i].l;
    }
  }
}

// Columns from t on at neighbouring positions of its sequence.
uint32_t num_neighbours(const OpContext& context, uint32_t t) {
  const auto& columns = context.input.columns;
  uint32_t count = 1;
  while (count < kMaxColumns && t + count < context.num_columns() &&
         columns[t + count].sequence == columns[t].sequence &&
         columns[t + count].position == columns[t].position + count) {
    ++count;
  }
  return count;
}

}  // namespace

Status run_op(const OpContext& context, const AttentionOperands& op, uint32_t) {
  const uint32_t group_size = op.num_q_heads / op.num_kv_heads;
  for (uint32_t head = context.task.row_begin; head < context.row_end();) {
    const uint32_t group_end = (head / group_size + 1) * group_size;
    const uint32_t num_heads = std::min({kMaxHeads, group_end - head, context.row_end() - head});
    for (uint32_t t = 0; t < context.num_columns();) {
      const Tile tile{t, num_neighbours(context, t), head, num_heads};
      op.num_splits == 1 ? whole_tile(context, op, tile) : split_tile(context, op, tile);
      t += tile.num_columns;
    }
    head += num_heads;
  }
  return {};
}

}  // namespace ultraspeed::cpu
