// The ceiling: one persistent CTA a multiprocessor copies pages through a ring in shared memory, in
// bulk copies, and drops them. No kernel that streams weights can be faster.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace ultraspeed::cuda {

inline constexpr uint32_t kDrainPageBytes = 17'408;  // a page of gate/up weights

struct Drain {
  const std::byte* pages = nullptr;
  uint32_t num_pages = 0;
  uint32_t* output = nullptr;  // one word, so that no read can be left out
};
cudaError_t launch_drain(const Drain& drain, uint32_t num_ctas, cudaStream_t stream);

}  // namespace ultraspeed::cuda
