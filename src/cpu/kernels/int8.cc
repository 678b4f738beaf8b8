#include "cpu/kernels/int8.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace ultraspeed::cpu {
namespace {

std::vector<Int8Kernel> find_kernels() {
  std::vector<Int8Kernel> kernels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    kernels.push_back({"AVX-512 VNNI", multiply_int8_avx512});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    kernels.push_back({"AVX2", multiply_int8_avx2});
  }
#endif
  return kernels;
}

int32_t dot_of_codes(const int8_t* a, const int8_t* b, uint32_t count) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

std::span<const Int8Kernel> int8_kernels() {
  static const std::vector<Int8Kernel> kernels = find_kernels();
  return kernels;
}

void quantize_plain(const float* x, uint32_t count, Int8Block* blocks) {
  constexpr uint32_t kHalf = kInt8BlockColumns / 2;
  for (uint32_t begin = 0; begin < count; begin += kInt8BlockColumns, ++blocks) {
    float most = 0;
    bool is_finite = true;
    for (uint32_t i = 0; i < kInt8BlockColumns; ++i) {
      most = std::max(most, std::abs(x[begin + i]));
      is_finite = is_finite && std::isfinite(x[begin + i]);
    }
    const bool has_codes = is_finite && most >= kLeastInt8Magnitude;
    const float inverse = has_codes ? 127 / most : 0;
    for (uint32_t i = 0; i < kInt8BlockColumns; ++i) {
      const float rounded = has_codes ? std::nearbyint(x[begin + i] * inverse) : 0;
      blocks->codes[i] = static_cast<int8_t>(rounded);
    }
    blocks->scale = has_codes    ? most / 127
                    : !is_finite ? std::numeric_limits<float>::quiet_NaN()
                                 : 0;
    for (uint32_t half = 0; half < 2; ++half) {
      int32_t sum = 0;
      for (uint32_t i = 0; i < kHalf; ++i) sum += blocks->codes[half * kHalf + i];
      blocks->half_offsets[half] = -kInt8Bias * sum;
    }
    blocks->offset = blocks->half_offsets[0] + blocks->half_offsets[1];
  }
}

uint32_t int8_piece_columns(const MatrixRows& rows) {
  const uint32_t unit = rows.chunk_unit();
  return std::min(unit & (~unit + 1), kInt8BlockColumns);
}

void multiply_int8_plain(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                         const ProductOutput& out) {
  const uint32_t piece = int8_piece_columns(rows);
  for (uint32_t r = 0; r < rows.num_rows; ++r) {
    for (uint32_t i = 0; i < num_inputs; ++i) {
      for (uint32_t chunk = 0; chunk < rows.num_chunks; ++chunk) {
        float sum = 0;
        const uint32_t end = rows.chunk_begin(chunk + 1);
        for (uint32_t column = rows.chunk_begin(chunk); column < end; column += piece) {
          const uint32_t block = column / kInt8BlockColumns;
          const uint32_t first = column % kInt8BlockColumns;
          const Int8Weights weights = int8_weights(rows.matrix, rows.row + r, block);
          const Int8Block& input = x[i][block];
          const int32_t dot = dot_of_codes(&weights.codes[first], input.codes + first, piece);
          sum = std::fma(static_cast<float>(dot), weights.scale * input.scale, sum);
        }
        out.put(i, chunk, r, &sum, 1);
      }
    }
  }
}

void multiply_int8(const MatrixRows& rows, const Int8Block* const* x, uint32_t num_inputs,
                   const ProductOutput& out) {
  const std::span<const Int8Kernel> kernels = int8_kernels();
  const bool fits = int8_piece_columns(rows) >= kInt8BlockColumns / 2;
  const auto multiply = fits && !kernels.empty() ? kernels[0].multiply : multiply_int8_plain;
  multiply(rows, x, num_inputs, out);
}

}  // namespace ultraspeed::cpu
