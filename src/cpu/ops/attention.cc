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
    state->start(nullptr, op_.v_head_dim);
    for (uint32_t position = begin; position < end; ++position) {
      const float score = op_.scale * dot(query_, key(position), op_.head_dim);
      scores[position - begin] = score;
      state->m = std::max(state->m, score);
    }
    for (uint32_t position = begin; position < end; ++position) {
      const float p = std::exp(scores[position - begin] - state->m);
      const float* v = value(position);
      state->l += p;
      for (uint32_t i = 0; i < op_.v_head_dim; ++i) state->o[i] += p * v[i];
    }
  }

 private:
  uint64_t row(uint32_t position) const {
    const uint64_t index = context_.cache_index(op_.cache, column_.sequence, position);
    return index * op_.num_kv_heads + kv_head_;
  }
  bool is_in_block(uint32_t position) const {
    return op_.is_draft_block != 0 && position >= visible_.step_begin;
  }
  // The step's own row of a draft block: the k heads, then the v heads.
  const float* block_row(uint32_t position) const {
    const uint64_t t = visible_.first_column + (position - visible_.step_begin);
    return context_.buffer(op_.cache_rows) + t * op_.num_kv_heads * (op_.head_dim + op_.v_head_dim);
  }
  const float* key(uint32_t position) const {
    if (is_in_block(position)) return block_row(position) + kv_head_ * op_.head_dim;
    return &cache_.keys[row(position) * op_.head_dim];
  }
  const float* value(uint32_t position) const {
    if (is_in_block(position)) {
      return block_row(position) + op_.num_kv_heads * op_.head_dim + kv_head_ * op_.v_head_dim;
    }
    return &cache_.values[row(position) * op_.v_head_dim];
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
