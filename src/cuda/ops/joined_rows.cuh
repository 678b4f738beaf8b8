// The threads' part of joined_rows.h.
#pragma once

#include "cuda/ops/columns.cuh"
#include "cuda/ops/joined_rows.h"

namespace ultraspeed::cuda {

// For the first kTaskThreads threads of a CTA: input `index` % num_inputs of a column.
__device__ __forceinline__ void join_rows(const JoinedRows& data, uint32_t index) {
  const uint32_t column = index / data.num_inputs, input = index % data.num_inputs;
  if (column >= *data.num_columns) return;
  copy_floats<kTaskThreads>(data.output + (uint64_t{column} * data.num_inputs + input) * data.size,
                            data.inputs[input] + uint64_t{column} * data.size, data.size);
}

// For half a warp, whose other half has another head: head `index` % num_heads() of a column.
class HeadRow {
 public:
  __device__ __forceinline__ HeadRow(const HeadRows& data, uint32_t index)
      : data_(data),
        column_(index / data.num_heads()),
        head_(index % data.num_heads()),
        is_there_(column_ < *data.num_columns) {
    const DenseQkv& heads = data.heads;
    const uint32_t keys = heads.num_q_heads + heads.num_kv_heads;
    is_value_ = head_ >= keys;
    is_query_ = head_ < heads.num_q_heads;
    size_ = is_value_ ? heads.v_head_dim : heads.head_dim;
    const uint32_t row = keys * heads.head_dim + heads.num_kv_heads * heads.v_head_dim;
    const uint32_t first = is_value_ ? keys * heads.head_dim + (head_ - keys) * heads.v_head_dim
                                     : head_ * heads.head_dim;
    sums_ = data.sums + uint64_t{column_} * row + first;
    norm_ = is_value_ ? nullptr : is_query_ ? data.q_norm : data.k_norm;
  }

  __device__ __forceinline__ void run() {
    const bool is_normed = is_there_ && norm_ != nullptr;
    const float squares = dot(sums_, sums_, is_normed ? size_ : 0);
    if (!is_there_) return;
    if (is_normed) {
      factor_ = rms_factor(squares, size_, is_query_ ? data_.q_epsilon : data_.k_epsilon);
    }
    is_value_ ? write_value() : write_rotated();
  }

 private:
  __device__ __forceinline__ float element(uint32_t i) const {
    return norm_ == nullptr ? sums_[i] : norm_[i] * (sums_[i] * factor_);
  }

  __device__ __forceinline__ uint64_t cache_row() const {
    const uint32_t* rows = data_.heads.cache_rows;
    return rows == nullptr ? column_ : rows[column_];
  }

  __device__ __forceinline__ void write_value() const {
    const DenseQkv& heads = data_.heads;
    const uint32_t head = head_ - heads.num_q_heads - heads.num_kv_heads;
    float* to = heads.values + cache_row() * heads.value_stride + head * size_;
    for (uint32_t i = dot_lane(); i < size_; i += kDotLanes) to[i] = element(i) * heads.value_scale;
  }

  __device__ __forceinline__ void write_rotated() const {
    const DenseQkv& heads = data_.heads;
    float* to = is_query_ ? heads.query + (uint64_t{column_} * heads.num_q_heads + head_) * size_
                          : heads.keys + cache_row() * heads.key_stride +
                                (head_ - heads.num_q_heads) * size_;
    const uint32_t half = heads.rotary_dim / 2;
    const float2* rotations = heads.rotations + uint64_t{column_} * half;
    for (uint32_t i = dot_lane(); i < half; i += kDotLanes) {
      const float low = element(i), high = element(i + half);
      const float2 rotation = rotations[i];
      to[i] = low * rotation.x - high * rotation.y;
      to[i + half] = high * rotation.x + low * rotation.y;
    }
    for (uint32_t i = heads.rotary_dim + dot_lane(); i < size_; i += kDotLanes) to[i] = element(i);
  }

  const HeadRows& data_;
  const uint32_t column_, head_;
  const bool is_there_;
  bool is_value_, is_query_;
  uint32_t size_;
  const float* sums_;
  const float* norm_;
  float factor_ = 1;
};

}  // namespace ultraspeed::cuda
