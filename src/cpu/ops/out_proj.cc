// OutProj: this rank's K-chunks of a product with rows on the hidden axis, pushed to the rows'
// owner, or to all.
#include "base/check.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/partials.h"

namespace ultraspeed::cpu {

Status run_op(const OpContext& context, const program::OutProjOperands& op, uint32_t) {
  const program::Task& task = context.task;
  const Partials partials(context, op.weight, op.partials, op.to_all != 0);
  const Matrix weight = context.matrix(op.weight);
  US_CHECK(weight.cols == op.input_size);
  multiply({weight, task.row_begin, task.row_count, partials.num_chunks()},
           normed_inputs(context, weight, {}, op.input), context.num_columns(),
           {partials.at(0, 0) + task.row_begin, partials.column_stride(), partials.chunk_stride()});
  partials.send();
  return {};
}

}  // namespace ultraspeed::cpu
