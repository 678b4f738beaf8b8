// The keys and values of a chunk's positions: where they lie, and their tiles in shared memory.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cstdint>

#include "cuda/ops/attention_layout.cuh"

namespace ultraspeed::cuda {

// Rows of one KV head.
class KeyRows {
 public:
  // t: a column of the sequence.
  __device__ KeyRows(const OpContext& context, const program::AttentionOperands& op, uint32_t t,
                     uint32_t kv_head)
      : context_(context),
        op_(op),
        cache_(context.cache(op.cache)),
        t_(t),
        kv_head_(kv_head),
        first_column_(context.column(t).first_column),
        step_begin_(context.column(first_column_).position) {}

  // A position's row: of the cache, or a column of the step whose keys a draft block keeps.
  __device__ uint32_t row_of(uint32_t position) const {
    if (op_.is_draft_block != 0 && position >= step_begin_) {
      return kOwnRow | (first_column_ + position - step_begin_);
    }
    return static_cast<uint32_t>(context_.cache_index(cache_, t_, position));
  }

  __device__ const float* key(uint32_t row) const {
    if ((row & kOwnRow) != 0) return own(row) + kv_head_ * op_.head_dim;
    return cache_.keys + (uint64_t{row} * op_.num_kv_heads + kv_head_) * op_.head_dim;
  }
  __device__ const float* value(uint32_t row) const {
    if ((row & kOwnRow) != 0) {
      return own(row) + op_.num_kv_heads * op_.head_dim + kv_head_ * op_.v_head_dim;
    }
    return cache_.values + (uint64_t{row} * op_.num_kv_heads + kv_head_) * op_.v_head_dim;
  }

 private:
  static constexpr uint32_t kOwnRow = 1u << 31;

  // The k heads, then the v heads.
  __device__ const float* own(uint32_t row) const {
    const uint32_t size = op_.num_kv_heads * (op_.head_dim + op_.v_head_dim);
    return context_.buffer(op_.cache_rows) + uint64_t{row & ~kOwnRow} * size;
  }

  const OpContext& context_;
  const program::AttentionOperands& op_;
  const Cache& cache_;
  uint32_t t_, kv_head_, first_column_, step_begin_;
};

// Starts copying a row to shared memory, a half-warp a row.
template <uint32_t kFloats>
__device__ void start_row_copy(float* to, const float* from, uint32_t count) {
  for (uint32_t i = dot_lane() * kFloats; i < count; i += kDotLanes * kFloats) {
    __pipeline_memcpy_async(to + i, from + i, kFloats * sizeof(float));
  }
}

// Starts copying `count` keys or values, [head_dim] or [v_head_dim]. Rows of four floats each and
// memory aligned to 16 bytes go the fast way.
inline __device__ void start_tile_copy(const AttentionLayout& layout, const KeyRows& keys,
                                       const program::AttentionOperands& op, const uint32_t* rows,
                                       uint32_t count, bool is_values, float* tile) {
  const uint32_t size = is_values ? op.v_head_dim : op.head_dim;
  const bool is_aligned = (op.head_dim | op.v_head_dim) % 4 == 0;
  for (uint32_t i = half_warp(); i < count; i += kHalfWarps) {
    const float* from = is_values ? keys.value(rows[i]) : keys.key(rows[i]);
    float* to = tile + i * layout.row_stride;
    is_aligned ? start_row_copy<4>(to, from, size) : start_row_copy<1>(to, from, size);
  }
}

}  // namespace ultraspeed::cuda
