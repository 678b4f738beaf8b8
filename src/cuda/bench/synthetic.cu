#include "cuda/bench/synthetic.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kBlocks = 1056, kThreads = 512;  // 8 blocks for each of 132 multiprocessors

// 32 bits that look random, of an index: xorshift.
__device__ uint32_t mixed(uint64_t index) {
  uint32_t x = static_cast<uint32_t>(index) * 2654435761u + 12345;
  for (int round = 0; round < 2; ++round) {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
  }
  return x;
}

__global__ void __launch_bounds__(kThreads) fill_mxfp4_kernel(PageFill fill) {
  auto* words = reinterpret_cast<uint32_t*>(fill.pages);
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < fill.size_bytes / 4;
       i += stride) {
    const uint32_t bits = mixed(i);
    const bool is_code = i * 4 % fill.page_bytes < fill.code_bytes;
    words[i] = is_code ? bits : (bits & 0x07070707u) | 0x70707070u;
  }
}

__global__ void __launch_bounds__(kThreads) fill_values_kernel(float* values, uint64_t count) {
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const uint32_t bits = mixed(i);
    uint32_t sum = 0;
    for (uint32_t byte = 0; byte < 4; ++byte) sum += bits >> (8 * byte) & 0xffu;
    values[i] = static_cast<float>(sum) / 255.0F - 2.0F;
  }
}

}  // namespace

cudaError_t fill_mxfp4(const PageFill& fill, cudaStream_t stream) {
  fill_mxfp4_kernel<<<kBlocks, kThreads, 0, stream>>>(fill);
  return cudaGetLastError();
}

cudaError_t fill_values(float* values, uint64_t count, cudaStream_t stream) {
  fill_values_kernel<<<kBlocks, kThreads, 0, stream>>>(values, count);
  return cudaGetLastError();
}

}  // namespace ultraspeed::cuda
