// Reduce: the 8 partial sums of a row in order, its bias, then the residual; to every rank.
#pragma once

#include "cuda/ops/context.cuh"
#include "cuda/ops/peer_delay.cuh"

namespace ultraspeed::cuda {

inline __device__ void run_op(const OpContext& context, const program::ReduceOperands& op) {
  using program::kReductionChunks;
  const uint32_t hidden_size = context.hidden_size();
  const uint32_t rows = context.task.row_count;
  const float* bias = context.vector(op.bias);
  for (uint32_t i = threadIdx.x; i < context.num_columns() * rows; i += kTaskThreads) {
    const uint64_t t = i / rows;
    const uint32_t row = context.task.row_begin + i % rows;
    const float* partials = context.buffer(op.partials) + t * kReductionChunks * hidden_size + row;
    float sum = partials[0];
    for (uint32_t chunk = 1; chunk < kReductionChunks; ++chunk) {
      sum += partials[uint64_t{chunk} * hidden_size];
    }
    if (bias != nullptr) sum += bias[row];
    const uint64_t index = t * hidden_size + row;
    const float value = context.buffer(op.residual)[index] + sum;
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      context.buffer_of(rank, op.output)[index] = value;
    }
  }
  if (threadIdx.x == 0) await_emulated_peers(context.machine());
}

}  // namespace ultraspeed::cuda
