// Attention: softmax over a column's visible positions, chunk by chunk.
#include <algorithm>
#include <cmath>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/softmax_state.h"
#include "cpu/ops/visible.h"

namespace ultraspeed::cpu {
namespace {

using program::AttentionOperands;

// One head of one column.
class HeadAttention {
 public:
  HeadAttention(const OpContext& context, const AttentionOperands& op, uint32_t t, uint32_t head)
      : context_(context),
        op_(op),
        column_(context.input.columns[t]),
        kv_head_(head / (op.num_q_heads / op.num_kv_heads)),
        query_(context.buffer(op.query) + (uint64_t{t} * op.num_q_heads + head) * op.head_dim),
        cache_(context.cache(op.cache)),
        visible_(visible_positions(context, op, t)) {}

  uint32_t first_chunk() const { return visible_.begin / op_.chunk_positions; }
  uint32_t last_chunk() const { return (visible_.end - 1) / op_.chunk_positions; }

  // The chunk's largest logit, sum of exponentials and weighted values.
  void run_chunk(uint32_t chunk, SoftmaxState* state) const {
    const uint32_t begin = std::max(visible_.begin, chunk * op_.chunk_positions);
    const uint32_t end = std::min(visible_.end, chunk * op_.chunk_positions + op_.chunk_positions);
    float* scores = context_.scratch->floats(kScores, op_.chunk_positions);
    for_each_run(begin, end, [&](const Run& run) {
      dot_rows(run.keys, run.key_stride, run.count, query_, op_.head_dim,
               scores + (run.position - begin));
    });
    for (uint32_t i = 0; i < end - begin; ++i) scores[i] *= op_.scale;
    state->start(nullptr, op_.v_head_dim);
    state->m = largest(scores, end - begin);
    state->l = exp_and_sum(scores, state->m, end - begin, scores);
    for_each_run(begin, end, [&](const Run& run) {
      add_weighted_rows(run.values, run.value_stride, run.count, scores + (run.position - begin),
                        op_.v_head_dim, state->o);
    });
  }

 private:
  // Rows of keys or values that lie together, `stride` floats apart.
  struct Run {
    uint32_t position, count;
    const float* keys;
    const float* values;
    size_t key_stride, value_stride;
  };

  // Positions [begin, end) in runs: those of the cache, then the step's own of a draft block.
  template <class Function>
  void for_each_run(uint32_t begin, uint32_t end, Function function) const {
    const uint32_t cache_end =
        op_.is_draft_block != 0 ? std::clamp(visible_.step_begin, begin, end) : end;
    for (uint32_t position = begin; position < cache_end;) {
      const uint32_t count =
          std::min(cache_end - position, context_.contiguous_positions(op_.cache, position));
      function(cached_run(position, count));
      position += count;
    }
    if (cache_end < end) function(block_run(cache_end, end - cache_end));
  }

  Run cached_run(uint32_t position, uint32_t count) const {
    const uint64_t row = context_.cache_index(op_.cache, column_.sequence, position);
    const uint64_t head = row * op_.num_kv_heads + kv_head_;
    return {position,
            count,
            &cache_.keys[head * op_.head_dim],
            &cache_.values[head * op_.v_head_dim],
            size_t{op_.num_kv_heads} * op_.head_dim,
            size_t{op_.num_kv_heads} * op_.v_head_dim};
  }

  // A row has the k heads, then the v heads.
  Run block_run(uint32_t position, uint32_t count) const {
    const size_t stride = size_t{op_.num_kv_heads} * (op_.head_dim + op_.v_head_dim);
    const uint64_t t = visible_.first_column + (position - visible_.step_begin);
    const float* row = context_.buffer(op_.cache_rows) + t * stride;
    const float* values = row + size_t{op_.num_kv_heads} * op_.head_dim;
    return {position,
            count,
            row + size_t{kv_head_} * op_.head_dim,
            values + size_t{kv_head_} * op_.v_head_dim,
            stride,
            stride};
  }

  const OpContext& context_;
  const AttentionOperands& op_;
  const program::Column& column_;
  uint32_t kv_head_;
  const float* query_;
  const Cache& cache_;
  VisiblePositions visible_;
};

void whole_head(const OpContext& context, const AttentionOperands& op, uint32_t t, uint32_t head) {
  const HeadAttention attention(context, op, t, head);
  const float* sinks = context.vector(op.sink);
  float* results = context.scratch->floats(kResults, size_t{2} * op.v_head_dim);
  SoftmaxState total{0, 0, results};
  SoftmaxState part{0, 0, results + op.v_head_dim};
  total.start(sinks == nullptr ? nullptr : sinks + head, op.v_head_dim);
  for (uint32_t chunk = attention.first_chunk(); chunk <= attention.last_chunk(); ++chunk) {
    attention.run_chunk(chunk, &part);
    total.merge(part.m, part.l, part.o, op.v_head_dim);
  }
  total.finish(op.v_head_dim,
               context.buffer(op.output) + (uint64_t{t} * op.num_q_heads + head) * op.v_head_dim);
}

// This split's chunks, each to its own place: [v_head_dim] o, m, l.
void split_head(const OpContext& context, const AttentionOperands& op, uint32_t t, uint32_t head) {
  const HeadAttention attention(context, op, t, head);
  float* partials = context.buffer(op.output) +
                    (uint64_t{t} * op.num_q_heads + head) * op.max_chunks * (op.v_head_dim + 2);
  for (uint32_t chunk = attention.first_chunk(); chunk <= attention.last_chunk(); ++chunk) {
    if (chunk % op.num_splits != context.task.part) continue;
    float* out = partials + uint64_t{chunk} * (op.v_head_dim + 2);
    SoftmaxState state{0, 0, out};
    attention.run_chunk(chunk, &state);
    out[op.v_head_dim] = state.m;
    out[op.v_head_dim + 1] = state.l;
  }
}

}  // namespace

Status run_op(const OpContext& context, const AttentionOperands& op, uint32_t) {
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    for (uint32_t head = context.task.row_begin; head < context.row_end(); ++head) {
      op.num_splits == 1 ? whole_head(context, op, t, head) : split_head(context, op, t, head);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
