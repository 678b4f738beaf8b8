// The two halves of verify(), for verify.cc alone.
#pragma once

#include "program/verify.h"

namespace ultraspeed::program::internal {

// Ids, tiles, pages, thresholds: what can be checked task by task or by counting.
Status verify_structure(const Program& program);

// Orderings and memory. REQUIRES: verify_structure() holds.
Result<VerifyReport> verify_order(const Program& program);

}  // namespace ultraspeed::program::internal
