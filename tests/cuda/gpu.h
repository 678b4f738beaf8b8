// For tests that need a GPU: they are skipped where there is none.
#pragma once

#include <gtest/gtest.h>

#include "cuda/executor.h"

// At the beginning of a test.
#define US_NEEDS_GPU()                                                            \
  do {                                                                            \
    const auto us_limits = ::ultraspeed::cuda::device_limits(0);                  \
    if (!us_limits) GTEST_SKIP() << "needs a GPU: " << us_limits.error().message; \
  } while (false)
