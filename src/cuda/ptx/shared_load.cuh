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
__device__ __forceinline__ uint32_t load_shared_word_here(uint32_t address) {
  uint32_t value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address));
  return value;
}

}  // namespace ultraspeed::cuda::ptx
