// AttentionMerge: the splits' chunks of a full-attention head, merged in chunk order.
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/softmax_state.h"
#include "cpu/ops/visible.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::AttentionMergeOperands& op, uint32_t) {
  const uint64_t stride = op.v_head_dim + 2;
  const float* sinks = context.vector(op.sink);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    const uint32_t last_chunk =
        (visible_end(context, op.is_causal != 0, t) - 1) / op.chunk_positions;
    for (uint32_t head = context.task.row_begin; head < context.row_end(); ++head) {
      const uint64_t row = uint64_t{t} * op.num_q_heads + head;
      const float* partial = context.buffer(op.partials) + row * op.max_chunks * stride;
      SoftmaxState total{0, 0, context.scratch->floats(kResults, op.v_head_dim)};
      total.start(sinks == nullptr ? nullptr : sinks + head, op.v_head_dim);
      for (uint32_t chunk = 0; chunk <= last_chunk; ++chunk, partial += stride) {
        total.merge(partial[op.v_head_dim], partial[op.v_head_dim + 1], partial, op.v_head_dim);
      }
      total.finish(op.v_head_dim, context.buffer(op.output) + row * op.v_head_dim);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
