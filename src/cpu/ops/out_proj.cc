// OutProj: this rank's K-chunks of a product with rows on the hidden axis, pushed to the rows'
// owner.
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::OutProjOperands& op, uint32_t) {
  using program::kReductionChunks;
  const program::Task& task = context.task;
  const uint32_t hidden_size = context.hidden_size();
  const uint32_t chunks = kReductionChunks / context.program.num_ranks;
  const uint32_t chunk_size = op.input_size / chunks;
  const uint32_t owner = task.row_begin / (hidden_size / context.program.num_ranks);
  const float* input = context.buffer(op.input);
  float* partials = context.buffer_of(owner, op.partials) + task.row_begin;
  MatrixBlock block{context.matrix(op.weight), task.row_begin, task.row_count, 0, chunk_size};
  for (uint32_t i = 0; i < chunks; ++i) {
    block.column = i * chunk_size;
    const uint64_t chunk = uint64_t{context.rank()} * chunks + i;
    multiply(block, column_pointers(context, input + block.column, op.input_size),
             context.num_columns(), partials + chunk * hidden_size,
             size_t{kReductionChunks} * hidden_size);
  }
  return {};
}

}  // namespace ultraspeed::cpu
