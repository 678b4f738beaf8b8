// Merges the partial results of chunks into outputs, each row by a warp or by all consumers of a
// CTA. Chunks are weighted relative to the row's largest m_c, M, and added in segments of 16:
//   w_c = 2^(m_c - M);  segment = fma(x_c, w_c, segment), c ascending;  sum = segment 0 + 1 + ...
// for x = l and each dimension of o alike; then l gets the sink's share (flash_products.cuh).
#pragma once

#include <cstdint>

#include "cuda/ops/flash_rows.cuh"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMergeSegment = 16;
inline constexpr uint32_t kFlashConsumerWarps = kFlashConsumers / 32;

template <class Tile>
class FlashMerge {
 public:
  static_assert(Tile::kValueDim == 128, "a lane has four dimensions");

  // shared: of the CTA; its 16-byte words are free.
  __device__ FlashMerge(const FlashAttention& launch, const FlashPlan& plan, std::byte* shared)
      : launch_(launch),
        shape_(launch),
        plan_(plan),
        thread_(threadIdx.x),
        warp_(thread_ / 32),
        lane_(thread_ % 32),
        shared_(shared) {}

  __device__ void run() {
    uint32_t most_chunks = 0;
    for (uint32_t i = 0; i < plan_.num_sequences; ++i) {
      most_chunks = max(most_chunks, FlashShape::chunks(launch_, plan_.sequences[i].end));
    }
    const uint32_t begin = launch_.first_column * launch_.num_q_heads + blockIdx.x;
    const uint32_t end = plan_.end_column * launch_.num_q_heads;
    if (most_chunks > kMergeSegment) {
#pragma unroll 1
      for (uint32_t row = begin; row < end; row += gridDim.x) merge(row);
      return;
    }
    // Two at a time: where CTAs are few a warp has several.
    const uint32_t step = gridDim.x * kFlashConsumerWarps;
#pragma unroll 1
    for (uint32_t row = begin + warp_ * gridDim.x; row < end; row += 2 * step) {
      const Chunks first = chunks(row);
      const Segment of_first = load(first, 0);
      if (row + step >= end) {
        merge_in_warp(row, first, of_first);
        continue;
      }
      const Chunks second = chunks(row + step);
      const Segment of_second = load(second, 0);
      merge_in_warp(row, first, of_first);
      merge_in_warp(row + step, second, of_second);
    }
  }

 private:
  // Where the chunks of a row lie: row index of FlashPartials, from a chunk to the next, and how
  // many the row sees.
  struct Chunks {
    uint32_t first, step;
    uint32_t count;
    const float* sink;  // nullptr: none

    __device__ __forceinline__ uint32_t row(uint32_t chunk) const {  // at most the last
      return first + min(chunk, count - 1) * step;
    }
  };
  __device__ Chunks chunks(uint32_t row) const {
    const uint32_t t = row / launch_.num_q_heads, head = row % launch_.num_q_heads;
    uint32_t i = 0;
    while (i + 1 < plan_.num_sequences && plan_.sequences[i + 1].first_column <= t) ++i;
    const FlashSequence& sequence = plan_.sequences[i];
    const uint32_t column = t - sequence.first_column;
    const uint32_t stride = shape_.blocks(sequence.num_columns) * shape_.num_kv_heads;
    const uint32_t in_columns = (column << shape_.log_group) + head % shape_.heads;
    const uint32_t unit = sequence.first_unit +
                          (in_columns >> kLogFlashRows) * shape_.num_kv_heads + head / shape_.heads;
    const uint32_t in_block = in_columns % kFlashRows;
    return {unit * kFlashRows + in_block, stride * kFlashRows,
            FlashShape::chunks(launch_, sequence.visible(launch_, column).end),
            launch_.sinks == nullptr ? nullptr : launch_.sinks + head};
  }

  // What a lane has of 16 chunks: four dimensions of each, and the state of one in two lanes.
  // Behind the row's last chunk stands that one.
  struct Segment {
    float4 values[kMergeSegment];
    float2 state;
  };
  __device__ __forceinline__ Segment load(const Chunks& of, uint32_t begin) const {
    Segment segment;
    const auto* sums = reinterpret_cast<const float4*>(launch_.partials.sums) + lane_;
#pragma unroll
    for (uint32_t i = 0; i < kMergeSegment; ++i) {
      segment.values[i] = sums[uint64_t{of.row(begin + i)} * (Tile::kValueDim / 4)];
    }
    segment.state = launch_.partials.states[of.row(begin + lane_ % kMergeSegment)];
    return segment;
  }

  struct Sums {
    float4 sum = {};
    float l = 0;
  };
  __device__ __forceinline__ Sums add(const Segment& segment, uint32_t count, float most) const {
    const bool has = lane_ < count && segment.state.x != minus_infinity();
    const float mine = has ? ptx::exp2_approx(segment.state.x - most) : 0.0F;
    Sums sums;
#pragma unroll
    for (uint32_t i = 0; i < kMergeSegment; ++i) {
      const float weight = __shfl_sync(~0u, mine, i);
      const float4 x = segment.values[i];
      sums.sum = {fmaf(x.x, weight, sums.sum.x), fmaf(x.y, weight, sums.sum.y),
                  fmaf(x.z, weight, sums.sum.z), fmaf(x.w, weight, sums.sum.w)};
      sums.l = fmaf(__shfl_sync(~0u, segment.state.y, i), weight, sums.l);
    }
    return sums;
  }

  __device__ __forceinline__ void write(uint32_t row, const Chunks& of, float most,
                                        Sums sums) const {
    float l = sums.l;
    if (of.sink != nullptr) l = with_sink<Tile>(l, most, *of.sink);
    const float factor = l == 0 ? 0.0F : 1 / l;
    const uint32_t fours = launch_.cache.v_head_dim / 4;
    if (lane_ >= fours) return;
    reinterpret_cast<float4*>(launch_.output)[uint64_t{row} * fours + lane_] = {
        sums.sum.x * factor, sums.sum.y * factor, sums.sum.z * factor, sums.sum.w * factor};
  }

  __device__ __forceinline__ static float warp_max(float value) {
#pragma unroll
    for (uint32_t offset = 16; offset > 0; offset /= 2) {
      value = fmaxf(value, __shfl_xor_sync(~0u, value, offset));
    }
    return value;
  }

  // The largest m of a row's chunks. For all warps of the CTA.
  __device__ __forceinline__ float most_of_row(const Chunks& of, float* of_warps) const {
    float most = minus_infinity();
    for (uint32_t c = thread_; c < of.count; c += kFlashConsumers) {
      most = fmaxf(most, launch_.partials.states[of.row(c)].x);
    }
    most = warp_max(most);
    if (lane_ == 0) of_warps[warp_] = most;
    ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
    return warp_max(of_warps[lane_ % kFlashConsumerWarps]);
  }

  // A row of one segment by a warp.
  __device__ __forceinline__ void merge_in_warp(uint32_t row, const Chunks& of,
                                                const Segment& segment) const {
    const float most = warp_max(segment.state.x);
    write(row, of, most, add(segment, of.count, most));
  }

  // A row by all warps: warp w has segments w, w + 8, ...
  __device__ __forceinline__ void merge(uint32_t row) const {
    const Chunks of = chunks(row);
    const uint32_t segments = (of.count + kMergeSegment - 1) / kMergeSegment;
    auto* segment_sums = reinterpret_cast<float4*>(shared_);
    float* segment_ls = reinterpret_cast<float*>(segment_sums + segments * 32);
    uint32_t i = warp_;
    Segment segment = load(of, i * kMergeSegment);  // on its way beside the states
    const float most = most_of_row(of, segment_ls + segments);
#pragma unroll 1
    while (i < segments) {
      const Sums sums = add(segment, of.count - i * kMergeSegment, most);
      segment_sums[i * 32 + lane_] = sums.sum;
      if (lane_ == 0) segment_ls[i] = sums.l;
      i += kFlashConsumerWarps;
      if (i < segments) segment = load(of, i * kMergeSegment);
    }
    ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
    Sums sums = {segment_sums[lane_], segment_ls[0]};
#pragma unroll 1
    for (uint32_t j = 1; j < segments; ++j) {
      const float4 other = segment_sums[j * 32 + lane_];
      sums.sum = {sums.sum.x + other.x, sums.sum.y + other.y, sums.sum.z + other.z,
                  sums.sum.w + other.w};
      sums.l += segment_ls[j];
    }
    if (warp_ == 0) write(row, of, most, sums);
    ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
  }

  const FlashAttention& launch_;
  const FlashShape shape_;
  const FlashPlan& plan_;
  const uint32_t thread_, warp_, lane_;
  std::byte* shared_;
};

}  // namespace ultraspeed::cuda
