// OutProj: this rank's K-chunks of a product with rows on the hidden axis, pushed to the rows'
// owner.
#include "base/check.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::OutProjOperands& op, uint32_t) {
  using program::kReductionChunks;
  const program::Task& task = context.task;
  const uint32_t hidden_size = context.hidden_size();
  const uint32_t chunks = context.program.num_chunks(op.weight);
  const uint32_t owner = task.row_begin / (hidden_size / context.program.num_ranks);
  const uint32_t first_chunk = context.program.first_chunk(context.rank());
  float* partials = context.buffer_of(owner, op.partials);
  const Matrix weight = context.matrix(op.weight);
  US_CHECK(weight.cols == op.input_size);
  multiply({weight, task.row_begin, task.row_count, chunks},
           normed_inputs(context, weight, {}, op.input), context.num_columns(),
           {partials + uint64_t{first_chunk} * hidden_size + task.row_begin,
            uint64_t{kReductionChunks} * hidden_size, hidden_size});
  return {};
}

}  // namespace ultraspeed::cpu
