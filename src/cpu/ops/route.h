// Which experts a column goes to.
#pragma once

#include <cstdint>
#include <vector>

#include "program/operands.h"

namespace ultraspeed::cpu {

// weights[e] = the column's routing weight of expert e, or -1 if it is not selected; [num_experts],
// as logits and bias (nullptr: none). Of `op` the sizes and the rule count, not the ids. `order` is
// scratch space; afterwards it has the selected experts, ascending.
void route_column(const program::RouteOperands& op, const float* logits, const float* bias,
                  std::vector<uint32_t>* order, float* weights);

}  // namespace ultraspeed::cpu
