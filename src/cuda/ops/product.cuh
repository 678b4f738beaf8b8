// Products of weight rows with up to 512 inputs in binary32, each sum in the order of
// docs/numerics.md section 2: the bits of cpu::multiply(). A half-warp takes a row; a warp's two
// rows are computed side by side.
#pragma once

#include <cstdint>

#include "cuda/ops/context.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/math.cuh"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kInputGroup = 8;  // inputs that share a load of a weight

// An E2M1 code: its magnitude bits in the place of a binary32's, whose exponents begin 2^126 lower.
inline __device__ float e2m1_to_float(uint32_t code) {
  const float magnitude = __uint_as_float((code & 7u) << 22) * 0x1p126F;
  return (code & 8u) != 0 ? -magnitude : magnitude;
}

// Element (row, k) of a packed matrix, rounded once (docs/weights_format.md section 3).
template <tensor::WeightFormat kFormat>
__device__ float weight_at(const Matrix& m, uint64_t row, uint32_t k) {
  using tensor::WeightFormat;
  const uint64_t index = row * m.cols + k;
  if constexpr (kFormat == WeightFormat::kF32) {
    return reinterpret_cast<const float*>(m.data)[index];
  } else if constexpr (kFormat == WeightFormat::kBf16) {
    return tensor::bf16_to_float(reinterpret_cast<const uint16_t*>(m.data)[index]);
  }
  const auto* codes = reinterpret_cast<const uint8_t*>(m.data);
  const uint8_t* scales = codes + tensor::code_bytes(kFormat, m.rows, m.cols);
  const uint64_t scale_columns = tensor::scale_columns(kFormat, m.cols);
  if constexpr (kFormat == WeightFormat::kFp8Block128) {
    const uint64_t at = row * scale_columns + k / tensor::kFp8BlockColumns;
    return tensor::e4m3_to_float(codes[index]) * reinterpret_cast<const float*>(scales)[at];
  } else {
    const uint32_t pair = codes[index / 2];  // columns are even in number
    const float value = e2m1_to_float(k % 2 == 0 ? pair : pair >> 4);
    return value * tensor::e8m0_to_float(scales[row * scale_columns + k / tensor::kMxBlockColumns]);
  }
}

// sums[i] = sum over k in [begin, end) of row * x(i, k), on all lanes of the half-warp.
template <tensor::WeightFormat kFormat, class X>
__device__ void dot_row_of(const Matrix& m, uint32_t row, uint32_t begin, uint32_t end,
                           uint32_t num_inputs, const X& x, float (&sums)[kInputGroup]) {
#pragma unroll
  for (float& sum : sums) sum = 0;
#pragma unroll 4
  for (uint32_t k = begin + dot_lane(); k < end; k += kDotLanes) {
    const float weight = weight_at<kFormat>(m, row, k);
#pragma unroll
    for (uint32_t i = 0; i < kInputGroup; ++i) {
      if (i < num_inputs) sums[i] = fmaf(weight, x(i, k), sums[i]);
    }
  }
#pragma unroll
  for (float& sum : sums) sum = half_warp_tree(sum);
}

template <class X>
__device__ void dot_row(const Matrix& m, uint32_t row, uint32_t begin, uint32_t end,
                        uint32_t num_inputs, const X& x, float (&sums)[kInputGroup]) {
  using tensor::WeightFormat;
  switch (m.format) {
    case WeightFormat::kF32:
      return dot_row_of<WeightFormat::kF32>(m, row, begin, end, num_inputs, x, sums);
    case WeightFormat::kBf16:
      return dot_row_of<WeightFormat::kBf16>(m, row, begin, end, num_inputs, x, sums);
    case WeightFormat::kFp8Block128:
      return dot_row_of<WeightFormat::kFp8Block128>(m, row, begin, end, num_inputs, x, sums);
    case WeightFormat::kMxfp4:
      return dot_row_of<WeightFormat::kMxfp4>(m, row, begin, end, num_inputs, x, sums);
  }
}

// One product, as for_each_product() delivers it to all 16 lanes of its half-warp.
struct Product {
  uint32_t pair;   // of rows
  uint32_t half;   // 0 or 1: which row of the pair
  uint32_t chunk;  // of K
  uint32_t input;  // 0 to num_inputs - 1
  float sum;
  bool is_writer;  // one lane of the half-warp
};

// Rows row_of(pair, half) of a matrix, K in num_chunks pieces (program::chunk_begin()), times
// inputs x(input, k). Calls store(product) on whole warps. A row beyond the matrix (kNoId) is
// computed as row 0.
template <class RowOf, class X, class Store>
__device__ void for_each_product(const Matrix& m, uint32_t num_pairs, uint32_t num_chunks,
                                 uint32_t num_inputs, const RowOf& row_of, const X& x,
                                 const Store& store) {
  const uint32_t lane = threadIdx.x % kWarpThreads;
  const uint32_t half = lane / kDotLanes;
  for (uint32_t item = threadIdx.x / kWarpThreads; item < num_pairs * num_chunks;
       item += kTaskWarps) {
    const uint32_t pair = item / num_chunks;
    const uint32_t chunk = item % num_chunks;
    const uint32_t row = row_of(pair, half);
    const uint32_t begin = program::chunk_begin(m.format, m.cols, num_chunks, chunk);
    const uint32_t end = program::chunk_begin(m.format, m.cols, num_chunks, chunk + 1);
    for (uint32_t first = 0; first < num_inputs; first += kInputGroup) {
      const uint32_t count = min(kInputGroup, num_inputs - first);
      float sums[kInputGroup];
      dot_row(
          m, row == kNoId ? 0 : row, begin, end, count,
          [&](uint32_t i, uint32_t k) { return x(first + i, k); }, sums);
#pragma unroll
      for (uint32_t i = 0; i < kInputGroup; ++i) {
        if (i >= count) continue;
        store(
            Product{pair, half, chunk, first + i, sums[i], row != kNoId && lane % kDotLanes == i});
      }
    }
  }
}

// The rows [begin, begin + count) in pairs.
struct RowRange {
  uint32_t begin, count;

  __device__ uint32_t num_pairs() const { return (count + 1) / 2; }
  __device__ uint32_t operator()(uint32_t pair, uint32_t half) const {
    return 2 * pair + half < count ? begin + 2 * pair + half : kNoId;
  }
};

}  // namespace ultraspeed::cuda
