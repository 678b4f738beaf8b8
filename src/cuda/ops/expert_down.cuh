// ExpertDown: the live experts' shares of a band of hidden rows, added in ascending expert id.
#pragma once

#include "cuda/ops/partials.cuh"
#include "cuda/ops/product.cuh"

namespace ultraspeed::cuda {

inline __device__ void run_op(const OpContext& context, const program::ExpertDownOperands& op) {
  const Partials partials(context, op.partials);
  const RowRange rows{context.task.row_begin, context.task.row_count};
  const uint32_t sums = context.num_columns() * partials.num_chunks * rows.count;
  for (uint32_t i = threadIdx.x; i < sums; i += kTaskThreads) {
    const uint32_t column_and_chunk = i / rows.count;
    *partials.at(column_and_chunk / partials.num_chunks, column_and_chunk % partials.num_chunks,
                 rows.begin + i % rows.count) = 0;
  }
  task_barrier();
  const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
  for (uint32_t slot = 0; slot < *table.num_slots; ++slot) {
    const uint32_t first_pair = table.pair_begin[slot];
    const float* activation =
        context.buffer(op.activation) + uint64_t{first_pair} * op.intermediate_size;
    const float* bias = context.vector(op.bias, table.expert[slot]);
    // A warp keeps its rows and chunks from slot to slot: no two warps add to one sum.
    for_each_product(
        context.matrix(op.weight, table.expert[slot]), rows.num_pairs(), partials.num_chunks,
        table.pair_begin[slot + 1] - first_pair, rows,
        [&](uint32_t pair, uint32_t k) {
          return activation[uint64_t{pair} * op.intermediate_size + k];
        },
        [&](const Product& product) {
          if (!product.is_writer) return;
          const uint32_t pair = first_pair + product.input;
          const uint32_t row = rows(product.pair, product.half);
          const float weight = table.pair_weight[pair];
          float* at = partials.at(table.pair_column[pair], product.chunk, row);
          float sum = fmaf(product.sum, weight, *at);
          const bool is_first = partials.first_chunk + product.chunk == 0;
          if (bias != nullptr && is_first) sum = fmaf(bias[row], weight, sum);
          *at = sum;
        });
    __syncwarp();  // the next slot's adding lane may be another one
  }
}

}  // namespace ultraspeed::cuda
