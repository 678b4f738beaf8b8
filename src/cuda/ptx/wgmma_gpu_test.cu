// How a wgmma product of e4m3 codes rounds, which docs/numerics.md and the bounds of
// expert_w4a8_gpu_test rely on.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/ptx/bulk.cuh"
#include "cuda/ptx/wgmma.cuh"
#include "cuda/ptx/wgmma_model.h"
#include "cuda/tile/e4m3_operand.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cuda {
namespace {

// As a share of the largest term: each of 32 terms loses less than 2^-13 of 2^(the sum of
// exponents), at most twice that of the term if both codes are normal; the sum, at most 32, loses
// 2^-13 of itself.
constexpr double kProductError = 32 * 0x1p-13 + 32 * 0x1p-13;

// d[64, 8] = a[64, 32] * b[8, 32], e4m3 codes, one product.
__global__ void product_kernel(const uint8_t* a, const uint8_t* b, float* d) {
  __shared__ __align__(128) uint8_t columns[256];
  for (uint32_t i = threadIdx.x; i < 256; i += 128) {
    columns[E4m3Operand<8>::code(0, i / 32, i % 32)] = b[i];
  }
  ptx::fence_proxy_async();
  __syncthreads();
  const uint32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const uint32_t registers[4] = {
      *reinterpret_cast<const uint32_t*>(a + row * 32 + 4 * t),
      *reinterpret_cast<const uint32_t*>(a + (row + 8) * 32 + 4 * t),
      *reinterpret_cast<const uint32_t*>(a + row * 32 + 16 + 4 * t),
      *reinterpret_cast<const uint32_t*>(a + (row + 8) * 32 + 16 + 4 * t)};
  float sums[4];
  ptx::wgmma_fence();
  ptx::wgmma_m64k32<8>(sums, registers, ptx::wgmma_descriptor(ptx::smem_address(columns)));
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  for (uint32_t i = 0; i < 4; ++i) {
    ptx::wgmma_result(sums[i]);
    d[(row + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i];
  }
}

std::vector<float> products(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  std::vector<float> d(64 * 8);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, a.size() + b.size() + d.size() * 4), cudaSuccess);
  auto* device_a = static_cast<uint8_t*>(memory);
  uint8_t* device_b = device_a + a.size();
  auto* device_d = reinterpret_cast<float*>(device_b + b.size());
  cudaMemcpy(device_a, a.data(), a.size(), cudaMemcpyDefault);
  cudaMemcpy(device_b, b.data(), b.size(), cudaMemcpyDefault);
  product_kernel<<<1, 128>>>(device_a, device_b, device_d);
  EXPECT_EQ(cudaMemcpy(d.data(), device_d, d.size() * 4, cudaMemcpyDefault), cudaSuccess);
  cudaFree(memory);
  return d;
}

TEST(WgmmaProduct, RoundsAsModelled) {
  US_NEEDS_GPU();
  std::mt19937 random(6);
  double worst = 0, error2 = 0, value2 = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<uint8_t> a(64 * 32), b(8 * 32);
    // Weights are decoded E2M1; every fifth round any codes but NaN.
    for (uint8_t& code : a) {
      const auto bits = static_cast<uint32_t>(random());
      code =
          static_cast<uint8_t>(round % 5 == 4 ? bits % 127 | (bits & 0x80) : decode_word(bits).a);
    }
    std::normal_distribution<float> normal(0, std::ldexp(1.0F, round % 17 - 9));
    for (uint8_t& code : b) code = tensor::e4m3_from_float(normal(random) * 16);
    const std::vector<float> got = products(a, b);
    for (uint32_t i = 0; i < 64 * 8; ++i) {
      const uint8_t *row = &a[i / 8 * 32], *column = &b[i % 8 * 32];
      ASSERT_EQ(double{got[i]}, model_product(row, column)) << "round " << round;
      double largest = 0, want = 0;
      for (int k = 0; k < 32; ++k) {
        const double term =
            double{tensor::e4m3_to_float(row[k])} * tensor::e4m3_to_float(column[k]);
        want += term;
        largest = std::max(largest, std::fabs(term));
      }
      if (largest == 0) continue;
      worst = std::max(worst, std::fabs(got[i] - want) / largest);
      error2 += (got[i] - want) * (got[i] - want) / (largest * largest);
      value2 += want * want / (largest * largest);
    }
  }
  std::printf("  products of 32: rms error %.2e, worst 2^%.2f of the largest term\n",
              std::sqrt(error2 / value2), std::log2(worst));
  EXPECT_LE(worst, kProductError);
}

}  // namespace
}  // namespace ultraspeed::cuda
