// Data for measurements, made on the device: random, the same in every run.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace ultraspeed::cuda {

// Pages of MXFP4 weights (tile/mxfp4_page.h): random codes; from byte `code_bytes` of a page on,
// scales of 2^-15 .. 2^-8. REQUIRES: page_bytes divides size_bytes, 4 divides both.
struct PageFill {
  std::byte* pages = nullptr;
  uint64_t size_bytes = 0;
  uint32_t page_bytes = 0, code_bytes = 0;
};
cudaError_t fill_mxfp4(const PageFill& fill, cudaStream_t stream);

// Values between -2 and 2 with variance 1/3, bell-shaped: sums of four uniform ones.
cudaError_t fill_values(float* values, uint64_t count, cudaStream_t stream);

}  // namespace ultraspeed::cuda
