// Keeps the reads of a drain, a launch that reads what a kernel reads and computes nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ultraspeed::cuda {

// `bits`: of all that was read; no value is likely, nor does the store hurt. output: one byte.
__device__ __forceinline__ void keep_bits(uint32_t bits, void* output) {
  if (bits == 0x9e3779b9u) *static_cast<std::byte*>(output) = std::byte{1};
}

}  // namespace ultraspeed::cuda
