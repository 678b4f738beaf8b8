// Reads of shared memory whose place is kept.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

// Stands where it is written, among others like it and barriers: of an ordinary read the compiler
// would make one right before the value is used, which then waits for it.
__device__ __forceinline__ float load_shared_here(uint32_t address) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address));
  return value;
}

}  // namespace ultraspeed::cuda::ptx
