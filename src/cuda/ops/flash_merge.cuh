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
        thread_(threadIdx.x - (kFlashThreads - kFlashConsumers)),
        warp_(thread_ / 32),
        lane_(thread_ % 32),
        shared_(shared) {}

  __device__ void run() {
    uint32_t most_chunks = 0;
    for (uint32_t i = 0; i < plan_.num_sequences; ++i) {
      most_chunks = max(most_chunks, FlashShape::chunks(launch_, plan_.sequences[i].end));
    }
    const uint32_t first = launch_.first_column * launch_.num_q_heads + blockIdx.x;
    const uint32_t end = plan_.end_column * launch_.num_q_heads;
    if (most_chunks <= kMergeSegment) {
      for (uint32_t row = first + warp_ * gridDim.x; row < end;
           row += gridDim.x * kFlashConsumerWarps) {
        merge_in_warp(row);
      }
    } else {
      for (uint32_t row = first; row < end; row += gridDim.x) merge_in_cta(row);
    }
  }

 private:
  // Where the chunks of a row lie: row index of FlashPartials, from a chunk to the next, and how
  // many the row sees.
  struct Chunks {
    uint64_t first, step;
    uint32_t count;
    const float* sink;  // nullptr: none
  };
  __device__ Chunks chunks(uint32_t row) const {
    const uint32_t t = row / launch_.num_q_heads, head = row % launch_.num_q_heads;
    uint32_t i = 0;
    while (i + 1 < plan_.num_sequences && plan_.sequences[i + 1].first_column <= t) ++i;
    const FlashSequence& sequence = plan_.sequences[i];
    const uint32_t column = t - sequence.first_column;
    const uint32_t stride = shape_.blocks(sequence.num_columns) * shape_.num_kv_heads;
    const uint32_t unit = sequence.first_unit +
                          column / shape_.block_columns * shape_.num_kv_heads + head / shape_.group;
    const uint32_t in_block = column % shape_.block_columns * shape_.group + head % shape_.group;
    return {uint64_t{unit} * kFlashRows + in_block, uint64_t{stride} * kFlashRows,
            FlashShape::chunks(launch_, sequence.visible(launch_, column).end),
            launch_.sinks == nullptr ? nullptr : launch_.sinks + head};
  }

  // What a lane has of 16 chunks: four dimensions of each.
  struct Segment {
    float4 values[kMergeSegment];
  };
  __device__ __forceinline__ Segment load(const Chunks& of, uint32_t begin) const {
    Segment segment;
#pragma unroll
    for (uint32_t i = 0; i < kMergeSegment; ++i) {
      if (begin + i >= of.count) continue;
      segment.values[i] = reinterpret_cast<const float4*>(
          launch_.partials
              .sums)[(of.first + (begin + i) * of.step) * (Tile::kValueDim / 4) + lane_];
    }
    return segment;
  }
  __device__ __forceinline__ float2 state(const Chunks& of, uint32_t chunk) const {
    return launch_.partials.states[of.first + chunk * of.step];
  }

  struct Sums {
    float4 sum = {};
    float l = 0;
  };
  // state_of(i): (m, l) of the segment's chunk i.
  template <class StateOf>
  __device__ __forceinline__ static Sums add(const Segment& segment, uint32_t count, float most,
                                             const StateOf& state_of) {
    Sums sums;
#pragma unroll
    for (uint32_t i = 0; i < kMergeSegment; ++i) {
      const float2 chunk = state_of(i);
      if (i >= count) continue;
      const float weight = chunk.x == minus_infinity() ? 0.0F : ptx::exp2_approx(chunk.x - most);
      const float4 x = segment.values[i];
      sums.sum = {fmaf(x.x, weight, sums.sum.x), fmaf(x.y, weight, sums.sum.y),
                  fmaf(x.z, weight, sums.sum.z), fmaf(x.w, weight, sums.sum.w)};
      sums.l = fmaf(chunk.y, weight, sums.l);
    }
    return sums;
  }

  __device__ void write(uint32_t row, const Chunks& of, float most, Sums sums) const {
    float l = sums.l;
    if (of.sink != nullptr) l = with_sink<Tile>(l, most, *of.sink);
    const float factor = l == 0 ? 0.0F : 1 / l;
    reinterpret_cast<float4*>(launch_.output)[uint64_t{row} * (Tile::kValueDim / 4) + lane_] = {
        sums.sum.x * factor, sums.sum.y * factor, sums.sum.z * factor, sums.sum.w * factor};
  }

  __device__ __forceinline__ static float warp_max(float value) {
#pragma unroll
    for (uint32_t offset = 16; offset > 0; offset /= 2) {
      value = fmaxf(value, __shfl_xor_sync(~0u, value, offset));
    }
    return value;
  }

  // REQUIRES: at most kMergeSegment chunks.
  __device__ void merge_in_warp(uint32_t row) const {
    const Chunks of = chunks(row);
    const float2 mine = lane_ < of.count ? state(of, lane_) : float2{minus_infinity(), 0};
    const Segment segment = load(of, 0);
    const float most = warp_max(mine.x);
    write(row, of, most, add(segment, of.count, most, [&](uint32_t i) {
            return float2{__shfl_sync(~0u, mine.x, i), __shfl_sync(~0u, mine.y, i)};
          }));
  }

  // Warp w has segments w, w + 8, ...
  __device__ void merge_in_cta(uint32_t row) const {
    const Chunks of = chunks(row);
    const uint32_t segments = (of.count + kMergeSegment - 1) / kMergeSegment;
    auto* states = reinterpret_cast<float2*>(shared_);
    auto* segment_sums = reinterpret_cast<float4*>(states + segments * kMergeSegment);
    float* segment_ls = reinterpret_cast<float*>(segment_sums + segments * 32);
    float* most_of_warps = segment_ls + segments;
    Segment segment = load(of, warp_ * kMergeSegment);  // on its way beside the states
    float most = minus_infinity();
    for (uint32_t c = thread_; c < of.count; c += kFlashConsumers) {
      states[c] = state(of, c);
      most = fmaxf(most, states[c].x);
    }
    most = warp_max(most);
    if (lane_ == 0) most_of_warps[warp_] = most;
    ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
    for (uint32_t i = 0; i < kFlashConsumerWarps; ++i) most = fmaxf(most, most_of_warps[i]);
    for (uint32_t i = warp_; i < segments; i += kFlashConsumerWarps) {
      const uint32_t begin = i * kMergeSegment;
      if (i != warp_) segment = load(of, begin);
      const Sums sums = add(segment, min(kMergeSegment, of.count - begin), most,
                            [&](uint32_t chunk) { return states[begin + chunk]; });
      segment_sums[i * 32 + lane_] = sums.sum;
      if (lane_ == 0) segment_ls[i] = sums.l;
    }
    ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
    if (warp_ == 0) {
      Sums sums = {segment_sums[lane_], segment_ls[0]};
      for (uint32_t i = 1; i < segments; ++i) {
        const float4 other = segment_sums[i * 32 + lane_];
        sums.sum = {sums.sum.x + other.x, sums.sum.y + other.y, sums.sum.z + other.z,
                    sums.sum.w + other.w};
        sums.l += segment_ls[i];
      }
      write(row, of, most, sums);
    }
    ptx::named_barrier(kConsumerBarrier, kFlashConsumers);
  }

  const FlashAttention& launch_;
  const FlashShape shape_;
  const FlashPlan& plan_;
  const uint32_t thread_, warp_, lane_;
  std::byte* shared_;
};

}  // namespace ultraspeed::cuda
