#include "cuda/bench/synthetic.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kBlocks = 1056, kThreads = 512;  // 8 blocks for each of 132 multiprocessors

// 32 bits that look random, of an index: xorshift.
__device__ uint32_t mixed(uint64_t index, uint32_t seed) {
  uint32_t x = static_cast<uint32_t>(index) * 2654435761u + 12345 + seed * 0x9e3779b9u;
  for (int round = 0; round < 2; ++round) {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
  }
  return x;
}

__device__ float bell(uint32_t bits) {
  uint32_t sum = 0;
  for (uint32_t byte = 0; byte < 4; ++byte) sum += bits >> (8 * byte) & 0xffu;
  return static_cast<float>(sum) / 255.0F - 2.0F;
}

__device__ uint32_t word_of(WordKind kind, uint32_t bits) {
  switch (kind) {
    case WordKind::kE2m1:
      return bits;
    case WordKind::kE8m0:
      return (bits & 0x07070707u) | 0x70707070u;
    case WordKind::kE4m3: {
      // Bytes of magnitude 0x7f, the NaNs, lose their lowest bit.
      const uint32_t is_nan = ((bits & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;
      return bits ^ is_nan >> 7;
    }
    case WordKind::kF32Unit:
      return (bits & 0x007fffffu) | (111u + (bits >> 23 & 3u)) << 23;
    case WordKind::kBf16:
      return (bits & 0x81ff81ffu) | 0x3a003a00u;
    case WordKind::kLargeBf16:
      return (bits & 0x807f807fu) | 0x42804280u;
    case WordKind::kF32:
      return __float_as_uint(bell(bits));
    case WordKind::kSmallF32:
      return __float_as_uint(bell(bits) / 64);
  }
  return 0;
}

__global__ void __launch_bounds__(kThreads) fill_pages_kernel(PageFill fill) {
  auto* words = reinterpret_cast<uint32_t*>(fill.pages);
  const uint64_t stride = uint64_t{gridDim.x} * blockDim.x;
  for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < fill.size_bytes / 4;
       i += stride) {
    const bool is_code = i * 4 % fill.page_bytes < fill.code_bytes;
    words[i] = word_of(is_code ? fill.codes : fill.scales, mixed(i, fill.seed));
  }
}

}  // namespace

cudaError_t fill_pages(const PageFill& fill, cudaStream_t stream) {
  if (fill.size_bytes == 0) return cudaSuccess;
  fill_pages_kernel<<<kBlocks, kThreads, 0, stream>>>(fill);
  return cudaGetLastError();
}

cudaError_t fill_values(float* values, uint64_t count, cudaStream_t stream) {
  const uint64_t size_bytes = count * sizeof(float);
  return fill_pages({reinterpret_cast<std::byte*>(values), size_bytes, size_bytes, size_bytes,
                     WordKind::kF32, WordKind::kF32},
                    stream);
}

}  // namespace ultraspeed::cuda
