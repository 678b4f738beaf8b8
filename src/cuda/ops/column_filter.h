// Which columns of a step a product with the output head is made of.
#pragma once

#include <cstdint>

#include "cuda/view.h"

namespace ultraspeed::cuda {

// All that is said holds. Device pointers.
struct ColumnFilter {
  const StepView* step = nullptr;      // nullptr: all columns, whatever stands below
  const uint32_t* accepted = nullptr;  // what Accept made: only accepted columns that want logits
  bool logits_only = false;            // StepColumn::wants_logits
  bool drafted_only = false;           // StepColumn::is_drafted
};

}  // namespace ultraspeed::cuda
