// For tests that need a GPU: they are skipped where there is none of compute capability 9.0.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>

namespace ultraspeed::test {

// Of programs that such a GPU runs: its multiprocessors.
inline constexpr uint32_t kGpuWorkers = 132;

inline bool has_hopper_gpu() {
  int count = 0;
  int major = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess &&
         major == 9;
}

}  // namespace ultraspeed::test

// At the beginning of a test.
#define US_NEEDS_GPU()                                                      \
  do {                                                                      \
    if (!::ultraspeed::test::has_hopper_gpu()) {                            \
      GTEST_SKIP() << "needs a GPU of compute capability 9.0 (H100, H200)"; \
    }                                                                       \
  } while (false)
