// Linear: rows of a plain product: the router, the language-model heads, a drafter's features, an
// MTP head's projection.
#pragma once

#include "cuda/ops/accepted.cuh"
#include "cuda/ops/columns.cuh"

namespace ultraspeed::cuda {

// What a block shares.
struct LinearShared {
  float factors[2][kMaxColumns];  // of the normalised inputs
  ColumnList wanted;
};
template <>
inline constexpr uint32_t kSharedBytes<program::LinearOperands> = sizeof(LinearShared);

// The inputs one behind the other as one row; only the first two can be normalised.
class JoinedColumns {
 public:
  __device__ JoinedColumns(const OpContext& context, const program::LinearOperands& op,
                           LinearShared* shared)
      : context_(context),
        op_(op),
        first_(context, op.norm, op.input, context.hidden_size(), shared->factors[0]),
        second_(context, op.second_norm, op.more_inputs[0], context.hidden_size(),
                shared->factors[1]) {}

  __device__ float operator()(uint32_t t, uint32_t k) const {
    const uint32_t size = context_.hidden_size();
    const uint32_t input = k / size;
    if (input == 0) return first_(t, k);
    if (input == 1) return second_(t, k - size);
    return context_.buffer(op_.more_inputs[input - 1])[uint64_t{t} * size + k % size];
  }

 private:
  const OpContext& context_;
  const program::LinearOperands& op_;
  NormedColumns first_, second_;
};

inline __device__ bool is_wanted(const OpContext& context, const program::LinearOperands& op,
                                 uint32_t t) {
  const uint32_t* accepted = op.accepted == kNoId ? nullptr : context.words(op.accepted);
  return is_wanted({&context.step(), accepted, op.logits_only != 0, op.drafted_only != 0}, t);
}

// Products of the wanted columns with inputs x(t, k), to where the operands send them.
template <class X>
__device__ void linear_rows(const OpContext& context, const program::LinearOperands& op,
                            const ColumnList& wanted, const X& x) {
  const RowRange rows{context.task.row_begin, context.task.row_count};
  const uint32_t first_row = op.rows == op.total_rows ? 0 : context.rank() * op.rows;
  const bool goes_to_rank_0 = op.gather_to_rank_0 != 0;
  const uint32_t rank_begin = op.broadcast != 0 || goes_to_rank_0 ? 0 : context.rank();
  const uint32_t rank_end = op.broadcast != 0 ? context.num_ranks() : rank_begin + 1;
  for_each_product(
      context.matrix(op.weight), rows.num_pairs(), 1, wanted.count, rows,
      [&](uint32_t i, uint32_t k) { return x(wanted.columns[i], k); },
      [&](const Product& product) {
        if (!product.is_writer) return;
        const uint64_t t = wanted.columns[product.input];
        const uint64_t at = t * op.total_rows + first_row + rows(product.pair, product.half);
        for (uint32_t rank = rank_begin; rank < rank_end; ++rank) {
          context.buffer_of(rank, op.output)[at] = product.sum;
        }
      });
}

inline __device__ void run_op(const OpContext& context, const program::LinearOperands& op) {
  LinearShared* shared = reinterpret_cast<LinearShared*>(context.shared_memory);
  shared->wanted.fill(context.num_columns(), [&](uint32_t t) { return is_wanted(context, op, t); });
  if (op.more_inputs[0] == kNoId) {
    const NormedColumns x(context, op.norm, op.input, context.hidden_size(), shared->factors[0]);
    linear_rows(context, op, shared->wanted, x);
  } else {
    linear_rows(context, op, shared->wanted, JoinedColumns(context, op, shared));
  }
}

}  // namespace ultraspeed::cuda
