// OutProj: this rank's K-chunks of a product with rows on the hidden axis, pushed to the rows'
// owner.
#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::OutProjOperands& op, uint32_t) {
  using program::kReductionChunks;
  const Matrix weight = context.matrix(op.weight);
  const uint32_t hidden_size = context.hidden_size();
  const uint32_t chunks = kReductionChunks / context.program.num_ranks;
  const uint32_t chunk_size = op.input_size / chunks;
  const uint32_t owner = context.task.row_begin / (hidden_size / context.program.num_ranks);
  const float* input = context.buffer(op.input);
  float* partials = context.buffer_of(owner, op.partials);
  for (uint32_t row = context.task.row_begin; row < context.row_end(); ++row) {
    const float* w = weight_row(context, weight, row);
    for (uint32_t t = 0; t < context.num_columns(); ++t) {
      const float* x = input + uint64_t{t} * op.input_size;
      for (uint32_t i = 0; i < chunks; ++i) {
        const uint64_t chunk = uint64_t{context.rank()} * chunks + i;
        partials[(uint64_t{t} * kReductionChunks + chunk) * hidden_size + row] =
            dot(w + i * chunk_size, x + i * chunk_size, chunk_size);
      }
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
