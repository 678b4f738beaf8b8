// GateUp: rows of a dense layer's gate and up projections, joined by SwiGLU.
#pragma once

#include "cuda/ops/columns.cuh"

namespace ultraspeed::cuda {

// Gate row i and up row i side by side: store(input, i, gate, up). x: inputs of the layer.
template <class X, class Store>
__device__ void gate_up_rows(const Matrix& weight, uint32_t intermediate_size, uint32_t first_row,
                             uint32_t num_rows, uint32_t num_inputs, const X& x,
                             const Store& store) {
  const auto row_of = [&](uint32_t i, uint32_t half) {
    return half * intermediate_size + first_row + i;
  };
  for_each_product(weight, num_rows, 1, num_inputs, row_of, x, [&](const Product& product) {
    const float other = __shfl_xor_sync(~0u, product.sum, kDotLanes);
    if (product.half == 0 && product.is_writer) {
      store(product.input, first_row + product.pair, product.sum, other);
    }
  });
}

template <>
inline constexpr uint32_t kSharedBytes<program::GateUpOperands> = kMaxColumns * sizeof(float);

inline __device__ void run_op(const OpContext& context, const program::GateUpOperands& op) {
  const NormedColumns x(context, op.norm, op.hidden, context.hidden_size(),
                        reinterpret_cast<float*>(context.shared_memory));
  float* output = context.buffer(op.output);
  gate_up_rows(context.matrix(op.weight), op.intermediate_size, context.task.row_begin,
               context.task.row_count, context.num_columns(), x,
               [&](uint32_t t, uint32_t row, float gate, float up) {
                 output[uint64_t{t} * op.intermediate_size + row] = silu_multiply(gate, up);
               });
}

}  // namespace ultraspeed::cuda
