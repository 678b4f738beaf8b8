// AttentionMerge: the splits' chunks of a full-attention head, merged in chunk order; a warp a
// column.
#pragma once

#include "cuda/ops/dot.cuh"
#include "cuda/ops/softmax_state.cuh"
#include "cuda/ops/visible.cuh"

namespace ultraspeed::cuda {

// Dimensions of a pass: what a thread of a warp keeps of them.
inline constexpr uint32_t kMergeParts = 8;

// Merges dimensions [first, first + kMergeParts * 32) of a row's partials [num_chunks, v_head_dim +
// 2]. Each lane first takes the factors of one of 32 chunks: the largest logit before a chunk is
// that of all chunks before, in any order.
inline __device__ void merge_row(const float* partials, uint32_t num_chunks, const float* sink,
                                 uint32_t first, uint32_t v_head_dim, float* output) {
  const uint32_t lane = threadIdx.x % kWarpThreads;
  const uint32_t stride = v_head_dim + 2;
  SoftmaxState total;
  total.start(sink);
  float o[kMergeParts] = {};
  for (uint32_t begin = 0; begin < num_chunks; begin += kWarpThreads) {
    const bool has_chunk = begin + lane < num_chunks;
    const float* mine = partials + uint64_t{begin + lane} * stride + v_head_dim;
    const float m = has_chunk ? mine[0] : minus_infinity();
    const float l = has_chunk ? mine[1] : 0.0F;
    float largest = fmaxf(total.m, m);
#pragma unroll
    for (uint32_t width = 1; width < kWarpThreads; width *= 2) {
      const float before = __shfl_up_sync(kWholeWarp, largest, width);
      if (lane >= width) largest = fmaxf(largest, before);
    }
    const float before = __shfl_up_sync(kWholeWarp, largest, 1);
    const float old_factor = exp_f32((lane == 0 ? total.m : before) - largest);
    const float new_factor = exp_f32(m - largest);
    const uint32_t count = min(kWarpThreads, num_chunks - begin);
#pragma unroll 4
    for (uint32_t i = 0; i < count; ++i) {
      const float old_i = __shfl_sync(kWholeWarp, old_factor, i);
      const float new_i = __shfl_sync(kWholeWarp, new_factor, i);
      const float* from = partials + uint64_t{begin + i} * stride + first + lane;
#pragma unroll
      for (uint32_t part = 0; part < kMergeParts; ++part) {
        if (first + lane + part * kWarpThreads >= v_head_dim) continue;
        o[part] = o[part] * old_i + from[part * kWarpThreads] * new_i;
      }
      total.l = total.l * old_i + __shfl_sync(kWholeWarp, l, i) * new_i;
    }
    total.m = __shfl_sync(kWholeWarp, largest, kWarpThreads - 1);
  }
#pragma unroll
  for (uint32_t part = 0; part < kMergeParts; ++part) {
    const uint32_t d = first + lane + part * kWarpThreads;
    if (d < v_head_dim) output[d] = o[part] / total.l;
  }
}

inline __device__ void run_op(const OpContext& context, const program::AttentionMergeOperands& op) {
  const float* sinks = context.vector(op.sink);
  const uint32_t warp = threadIdx.x / kWarpThreads;
  for (uint32_t t = warp; t < context.num_columns(); t += kTaskWarps) {
    const uint32_t end = visible_end(context, op.is_causal != 0, t);
    const uint32_t num_chunks = (end - 1) / op.chunk_positions + 1;
    for (uint32_t head = context.task.row_begin; head < context.row_end(); ++head) {
      const uint64_t row = uint64_t{t} * op.num_q_heads + head;
      const float* partials =
          context.buffer(op.partials) + row * op.max_chunks * (op.v_head_dim + 2);
      for (uint32_t d = 0; d < op.v_head_dim; d += kMergeParts * kWarpThreads) {
        merge_row(partials, num_chunks, sinks == nullptr ? nullptr : sinks + head, d, op.v_head_dim,
                  context.buffer(op.output) + row * op.v_head_dim);
      }
    }
  }
}

}  // namespace ultraspeed::cuda
