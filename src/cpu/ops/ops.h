// One function an opcode: the meaning of the program. Plain loops over the task's tile and the
// step's columns, in f32. program/operands.h has the formulas and shapes, docs/numerics.md the
// order of every sum. Nothing here knows a model, a thread or a wait.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "cpu/machine.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

// Runs unit `unit` of the context's task; unit is 0 unless the opcode loops over live experts.
// Errors come from step data alone (Sample: logits that are not numbers).
#define US_DECLARE_OP(name) \
  Status run_op(const OpContext& context, const program::name##Operands& op, uint32_t unit);
US_OPCODES(US_DECLARE_OP)
#undef US_DECLARE_OP

// Units of the context's task in this step. REQUIRES: the route table has been written if the
// opcode loops over live experts.
uint32_t unit_count(const OpContext& context);

// Dispatches to the task's opcode.
Status run_task(const OpContext& context, uint32_t unit);

}  // namespace ultraspeed::cpu
