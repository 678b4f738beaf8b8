// The clock that all multiprocessors share (PTX ISA 3.1, %globaltimer).
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

__device__ __forceinline__ uint64_t global_nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

}  // namespace ultraspeed::cuda::ptx
