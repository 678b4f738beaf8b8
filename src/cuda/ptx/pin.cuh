// Empty instructions that say where a register is made: the compiler moves neither what makes it
// behind them nor, being volatile, them across other such instructions.
#pragma once

#include <cstdint>

namespace ultraspeed::cuda::ptx {

__device__ __forceinline__ void pin(uint32_t& value) {
  asm volatile("" : "+r"(value));
}

__device__ __forceinline__ void pin(float& value) {
  asm volatile("" : "+f"(value));
}

// All at once: none is waited for before another is asked for.
template <class First, class Second>
__device__ __forceinline__ void pin_together(uint32_t& value, First*& first, Second*& second) {
  asm volatile("" : "+r"(value), "+l"(first), "+l"(second));
}

// Memory that it was read from has been read, too.
__device__ __forceinline__ void pin_read(float& value) {
  asm volatile("" : "+f"(value)::"memory");
}

}  // namespace ultraspeed::cuda::ptx
