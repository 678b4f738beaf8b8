// What attention reads first of a step.
#pragma once

#include <cstdint>

#include "cuda/ptx/pin.cuh"
#include "cuda/view.h"

namespace ultraspeed::cuda {

// A step's columns and pages, read at once: a check of num_columns before the next read would cost
// a round trip to memory.
struct StepHead {
  __device__ __forceinline__ explicit StepHead(const StepView* step)
      : num_columns(step->num_columns), columns(step->columns), pages(step->pages) {
    ptx::pin_together(num_columns, columns, pages);
  }

  uint32_t num_columns;
  const StepColumn* columns;
  const uint32_t* pages;
};

}  // namespace ultraspeed::cuda
