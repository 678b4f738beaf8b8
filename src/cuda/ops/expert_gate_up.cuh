// ExpertGateUp: row groups of the live experts' gate and up projections, for their columns.
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/gate_up.cuh"

namespace ultraspeed::cuda {

template <>
inline constexpr uint32_t kSharedBytes<program::ExpertGateUpOperands> = kMaxColumns * sizeof(float);

inline __device__ void run_op(const OpContext& context, const program::ExpertGateUpOperands& op) {
  const NormedColumns x(context, op.norm, op.hidden, context.hidden_size(),
                        reinterpret_cast<float*>(context.shared_memory));
  const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
  const uint32_t rows = op.intermediate_size / op.row_groups;
  const uint32_t num_units = *table.num_slots * op.row_groups;
  for (uint32_t unit = context.task.row_begin; unit < num_units; unit += context.task.part) {
    const uint32_t slot = unit / op.row_groups;
    const uint32_t first_pair = table.pair_begin[slot];
    const uint32_t pairs = table.pair_begin[slot + 1] - first_pair;
    const float* bias = context.vector(op.bias, table.expert[slot]);
    float* output = context.buffer(op.activation) + uint64_t{first_pair} * op.intermediate_size;
    gate_up_rows(
        context.matrix(op.weight, table.expert[slot]), op.intermediate_size,
        unit % op.row_groups * rows, rows, pairs,
        [&](uint32_t pair, uint32_t k) { return x(table.pair_column[first_pair + pair], k); },
        [&](uint32_t pair, uint32_t row, float gate, float up) {
          if (bias != nullptr) {
            gate += bias[row];
            up += bias[op.intermediate_size + row];
          }
          output[uint64_t{pair} * op.intermediate_size + row] =
              join_gate_up(gate, up, op.clamp.limit);
        });
  }
}

}  // namespace ultraspeed::cuda
