// Data for measurements, made on the device: random, the same in every run.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace ultraspeed::cuda {

// What words of 4 bytes hold. Products of 6144 such terms and activations near 1 are near 1.
enum class WordKind : uint8_t {
  kE2m1,       // any bits
  kE8m0,       // scales of 2^-15 .. 2^-8
  kE4m3,       // no NaN
  kF32Unit,    // positive scales of 2^-16 .. 2^-12, for e4m3
  kBf16,       // magnitudes of 2^-11 .. 2^-7
  kLargeBf16,  // of 2^6 .. 2^7
  kF32,        // between -2 and 2 with variance 1/3, bell-shaped: sums of four uniform values
  kSmallF32,   // the same / 64
};

// Pages, or matrices, one behind the other: from byte `code_bytes` of each on, scales.
// REQUIRES: 4 divides all sizes.
struct PageFill {
  std::byte* pages = nullptr;
  uint64_t size_bytes = 0;
  uint64_t page_bytes = 0, code_bytes = 0;
  WordKind codes = WordKind::kE2m1, scales = WordKind::kE8m0;
  uint32_t seed = 0;  // others make other bits
};
cudaError_t fill_pages(const PageFill& fill, cudaStream_t stream);

// WordKind::kF32.
cudaError_t fill_values(float* values, uint64_t count, cudaStream_t stream);

}  // namespace ultraspeed::cuda
