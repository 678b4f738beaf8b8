// The columns of a buffer, normalised or not, as inputs of products.
#pragma once

#include <cstdint>

#include "cuda/ops/context.cuh"
#include "cuda/ops/dot.cuh"
#include "cuda/ops/product.cuh"

namespace ultraspeed::cuda {

// What RMSNorm multiplies a vector with before its weight.
inline __device__ float rms_factor(float squares, uint32_t size, float epsilon) {
  return 1.0F / sqrtf(squares / static_cast<float>(size) + epsilon);
}

// Element k of norm(buffer[t]), [num_columns, size]. Blocks make one together.
class NormedColumns {
 public:
  // factors: shared, [num_columns]. Ends with a barrier.
  __device__ NormedColumns(const OpContext& context, const program::NormRef& norm,
                           program::BufferId buffer, uint32_t size, float* factors)
      : rows_(context.buffer(buffer)),
        weight_(context.vector(norm.weight)),
        factors_(factors),
        size_(size) {
    if (weight_ == nullptr) return;
    for (uint32_t t0 = 0; t0 < context.num_columns(); t0 += kHalfWarps) {
      const uint32_t t = t0 + half_warp();
      const float* x = rows_ + uint64_t{min(t, context.num_columns() - 1)} * size;
      const float squares = dot(x, x, size);
      if (t < context.num_columns()) factors[t] = rms_factor(squares, size, norm.epsilon);
    }
    task_barrier();
  }

  __device__ float operator()(uint32_t t, uint32_t k) const {
    const float x = rows_[uint64_t{t} * size_ + k];
    return weight_ == nullptr ? x : weight_[k] * (x * factors_[t]);
  }

 private:
  const float* rows_;
  const float* weight_;
  const float* factors_;
  uint32_t size_;
};

// A row in shared memory on its way through a norm.
struct NormedRow {
  float* row;
  float* weight;
  float* factor;  // of the row
};

// For one whole warp: the factor of a row.
__device__ __forceinline__ void make_factor(const NormedRow& row, uint32_t size, float epsilon) {
  const float squares = sum_of_squares(row.row, size);
  if (threadIdx.x % kWarpThreads == 0) *row.factor = rms_factor(squares, size, epsilon);
}

// For the first kThreads threads of a CTA: copies floats, of which 4 divides the number, between
// addresses that are multiples of 16.
template <uint32_t kThreads>
__device__ __forceinline__ void copy_floats(float* to, const float* from, uint32_t count) {
  for (uint32_t i = threadIdx.x; i < count / 4; i += kThreads) {
    reinterpret_cast<float4*>(to)[i] = reinterpret_cast<const float4*>(from)[i];
  }
}

// The columns t with is_wanted(t), ascending.
struct ColumnList {
  uint32_t count;
  uint16_t columns[kMaxColumns];

  // In shared memory, by the whole block; ends with a barrier.
  template <class Predicate>
  __device__ void fill(uint32_t num_columns, const Predicate& is_wanted) {
    if (threadIdx.x < kWarpThreads) {
      uint32_t found = 0;
      for (uint32_t t0 = 0; t0 < num_columns; t0 += kWarpThreads) {
        const uint32_t t = t0 + threadIdx.x;
        const bool wanted = t < num_columns && is_wanted(t);
        const uint32_t mask = __ballot_sync(~0u, wanted);
        const uint32_t before = __popc(mask & ((1u << threadIdx.x) - 1));
        if (wanted) columns[found + before] = static_cast<uint16_t>(t);
        found += __popc(mask);
      }
      if (threadIdx.x == 0) count = found;
    }
    task_barrier();
  }
};

}  // namespace ultraspeed::cuda
