// OutProj: this rank's K-chunks of a product with rows on the hidden axis, pushed to the rows'
// owner.
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/partials.cuh"

namespace ultraspeed::cuda {

inline __device__ void run_op(const OpContext& context, const program::OutProjOperands& op) {
  const Partials partials(context, op.partials);
  const Matrix weight = context.matrix(op.weight);
  const NormedColumns x(context, {}, op.input, weight.cols, nullptr);
  const RowRange rows{context.task.row_begin, context.task.row_count};
  for_each_product(weight, rows.num_pairs(), partials.num_chunks, context.num_columns(), rows, x,
                   [&](const Product& product) {
                     if (!product.is_writer) return;
                     *partials.at(product.input, product.chunk, rows(product.pair, product.half)) =
                         product.sum;
                   });
}

}  // namespace ultraspeed::cuda
