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

// So many heads share the loads of a key or value.
constexpr uint32_t kMaxHeads = 8;

// Some heads of one column that share a KV head.
class HeadsAttention {
 public:
  HeadsAttention(const OpContext& context, const AttentionOperands& op, uint32_t t, uint32_t head,
                 uint32_t num_heads)
      : context_(context),
        op_(op),
        column_(context.input.columns[t]),
        num_heads_(num_heads),
        kv_head_(head / (op.num_q_heads / op.num_kv_heads)),
        queries_(context.buffer(op.query) + (uint64_t{t} * op.num_q_heads + head) * op.head_dim),
        cache_(context.cache(op.cache)),
        visible_(visible_positions(context, op, t)) {}

  uint32_t first_chunk() const { return visible_.begin / op_.chunk_positions; }
  uint32_t last_chunk() const { return (visible_.end - 1) / op_.chunk_positions; }

  // The chunk's largest logit, sum of exponentials and weighted values of each head; the heads'
  // `o` lie o_stride apart.
  void run_chunk(uint32_t chunk, SoftmaxState* states, size_t o_stride) const {
    const uint32_t begin = std::max(visible_.begin, chunk * op_.chunk_positions);
    const uint32_t end = std::min(visible_.end, chunk * op_.chunk_positions + op_.chunk_positions);
    const size_t stride = op_.chunk_positions;
    float* scores = context_.scratch->floats(kScores, num_heads_ * stride);
    for_each_run(begin, end, [&](const Run& run) {
      dot_rows(run.keys, queries_, op_.head_dim, num_heads_, scores + (run.position - begin),
               stride);
    });
    for (uint32_t head = 0; head < num_heads_; ++head) {
      float* of_head = scores + head * stride;
      for (uint32_t i = 0; i < end - begin; ++i) of_head[i] *= op_.scale;
      states[head].start(nullptr, op_.v_head_dim);
      states[head].m = largest(of_head, end - begin);
      states[head].l = exp_and_sum(of_head, states[head].m, end - begin, of_head);
    }
    for_each_run(begin, end, [&](const Run& run) {
      add_weighted_rows(run.values, scores + (run.position - begin), stride, num_heads_,
                        states[0].o, o_stride);
    });
  }

 private:
  // Keys and values of neighbouring positions that lie together.
  struct Run {
    uint32_t position;
    FloatRows keys, values;
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
    const size_t heads = op_.num_kv_heads;
    return {position,
            {&cache_.keys[head * op_.head_dim], heads * op_.head_dim, count, op_.head_dim},
            {&cache_.values[head * op_.v_head_dim], heads * op_.v_head_dim, count, op_.v_head_dim}};
  }

  // A row has the k heads, then the v heads.
  Run block_run(uint32_t position, uint32_t count) const {
    const size_t stride = size_t{op_.num_kv_heads} * (op_.head_dim + op_.v_head_dim);
    const uint64_t t = visible_.first_column + (position - visible_.step_begin);
    const float* row = context_.buffer(op_.cache_rows) + t * stride;
    const float* values = row + size_t{op_.num_kv_heads} * op_.head_dim;
    return {position,
            {row + size_t{kv_head_} * op_.head_dim, stride, count, op_.head_dim},
            {values + size_t{kv_head_} * op_.v_head_dim, stride, count, op_.v_head_dim}};
  }

  const OpContext& context_;
  const AttentionOperands& op_;
  const program::Column& column_;
  uint32_t num_heads_;
  uint32_t kv_head_;
  const float* queries_;  // [num_heads, head_dim]
  const Cache& cache_;
  VisiblePositions visible_;
};

using States = std::array<SoftmaxState, kMaxHeads>;

// The states of neighbouring heads, their `o` from `first` on.
States states_at(float* first, size_t stride) {
  States states;
  for (uint32_t i = 0; i < kMaxHeads; ++i) states[i].o = first + i * stride;
  return states;
}

void whole_heads(const OpContext& context, const AttentionOperands& op, uint32_t t, uint32_t head,
                 uint32_t num_heads) {
  const HeadsAttention attention(context, op, t, head, num_heads);
  const float* sinks = context.vector(op.sink);
  const size_t size = op.v_head_dim;
  float* results = context.scratch->floats(kResults, 2 * kMaxHeads * size);
  States total = states_at(results, size);
  States part = states_at(results + kMaxHeads * size, size);
  for (uint32_t i = 0; i < num_heads; ++i) {
    total[i].start(sinks == nullptr ? nullptr : sinks + head + i, op.v_head_dim);
  }
  for (uint32_t chunk = attention.first_chunk(); chunk <= attention.last_chunk(); ++chunk) {
    attention.run_chunk(chunk, part.data(), size);
    for (uint32_t i = 0; i < num_heads; ++i) {
      total[i].merge(part[i].m, part[i].l, part[i].o, op.v_head_dim);
    }
  }
  float* output = context.buffer(op.output) + (uint64_t{t} * op.num_q_heads + head) * size;
  for (uint32_t i = 0; i < num_heads; ++i) total[i].finish(op.v_head_dim, output + i * size);
}

// This split's chunks, each to its own place: [v_head_dim] o, m, l.
void split_heads(const OpContext& context, const AttentionOperands& op, uint32_t t, uint32_t head,
                 uint32_t num_heads) {
  const HeadsAttention attention(context, op, t, head, num_heads);
  const size_t size = op.v_head_dim + size_t{2};
  const size_t head_stride = op.max_chunks * size;
  float* partials = context.buffer(op.output) + (uint64_t{t} * op.num_q_heads + head) * head_stride;
  for (uint32_t chunk = attention.first_chunk(); chunk <= attention.last_chunk(); ++chunk) {
    if (chunk % op.num_splits != context.task.part) continue;
    States states = states_at(partials + chunk * size, head_stride);
    attention.run_chunk(chunk, states.data(), head_stride);
    for (uint32_t i = 0; i < num_heads; ++i) {
      states[i].o[op.v_head_dim] = states[i].m;
      states[i].o[op.v_head_dim + 1] = states[i].l;
    }
  }
}

}  // namespace

Status run_op(const OpContext& context, const AttentionOperands& op, uint32_t) {
  const uint32_t group_size = op.num_q_heads / op.num_kv_heads;
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    for (uint32_t head = context.task.row_begin; head < context.row_end();) {
      const uint32_t group_end = (head / group_size + 1) * group_size;
      const uint32_t count = std::min({kMaxHeads, group_end - head, context.row_end() - head});
      op.num_splits == 1 ? whole_heads(context, op, t, head, count)
                         : split_heads(context, op, t, head, count);
      head += count;
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
