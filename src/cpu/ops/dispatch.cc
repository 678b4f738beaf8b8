#include "cpu/ops/ops.h"

namespace ultraspeed::cpu {

uint32_t unit_count(const OpContext& context) {
  const program::Task& task = context.task;
  const program::Operands& operands = context.program.stages[task.stage].operands;
  if (const auto* op = std::get_if<program::ExpertGateUpOperands>(&operands)) {
    const uint32_t units = context.words(op->route)[0] * op->row_groups;
    if (task.row_begin >= units) return 0;
    return (units - task.row_begin + task.part - 1) / task.part;
  }
  if (const auto* op = std::get_if<program::ExpertDownOperands>(&operands)) {
    return context.words(op->route)[0];
  }
  return 1;
}

Status run_task(const OpContext& context, uint32_t unit) {
  return std::visit([&](const auto& op) { return run_op(context, op, unit); },
                    context.program.stages[context.task.stage].operands);
}

}  // namespace ultraspeed::cpu
