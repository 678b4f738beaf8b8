// Device memory for tests of kernels, and what they say of errors.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

namespace ultraspeed::test {

inline constexpr uint32_t kPoison = 0xffffffff;  // a NaN as f32, bf16, f16, e4m3 and E8M0
inline constexpr uint64_t kGuardWords = 64;

inline void check(cudaError_t error) {
  ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error);
}

// Device memory between guard words, poisoned.
template <class T>
class Device {
 public:
  explicit Device(uint64_t count) : words_((count * sizeof(T) + 3) / 4) {
    check(cudaMalloc(&memory_, (words_ + 2 * kGuardWords) * 4));
    poison();
  }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    check(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyDefault));
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() { cudaFree(memory_); }

  T* data() { return reinterpret_cast<T*>(memory_ + kGuardWords); }
  void poison() { check(cudaMemset(memory_, 0xff, (words_ + 2 * kGuardWords) * 4)); }
  void clear() { check(cudaMemset(data(), 0, words_ * 4)); }
  std::vector<T> read() {
    std::vector<uint32_t> all(words_ + 2 * kGuardWords);
    check(cudaDeviceSynchronize());
    check(cudaMemcpy(all.data(), memory_, all.size() * 4, cudaMemcpyDefault));
    for (uint64_t i = 0; i < kGuardWords; ++i) {
      EXPECT_EQ(all[i], kPoison);
      EXPECT_EQ(all[kGuardWords + words_ + i], kPoison);
    }
    std::vector<T> values(words_ * 4 / sizeof(T));
    std::memcpy(values.data(), all.data() + kGuardWords, words_ * 4);
    return values;
  }

 private:
  uint64_t words_;
  uint32_t* memory_ = nullptr;
};

// |error| as a share of its bound, and both sums of squares.
struct Errors {
  double worst = 0, error2 = 0, value2 = 0;
  void add(double got, double want, double bound) {
    const double error = std::fabs(got - want);
    worst = std::isfinite(error) ? std::max(worst, error / bound)
                                 : std::numeric_limits<double>::infinity();
    error2 += error * error;
    value2 += want * want;
  }
  void report(const char* what) const {
    std::printf("  %s: rms error %.2e, worst %.3f of the bound\n", what, std::sqrt(error2 / value2),
                worst);
    EXPECT_LE(worst, 1);
  }
};

}  // namespace ultraspeed::test
