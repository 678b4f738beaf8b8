// The units of a step of flash_attention.h: every CTA makes the same table of sequences and takes
// units blockIdx.x, blockIdx.x + gridDim.x, ...
#pragma once

#include <cstdint>

#include "cuda/ops/flash_attention.h"
#include "cuda/ops/step_head.cuh"

namespace ultraspeed::cuda {

// Positions [begin, end).
struct FlashRange {
  uint32_t begin, end;
};

struct FlashSequence {
  uint32_t first_column, num_columns;
  uint32_t position, end;  // of its first column, and one past its last
  uint32_t sequence;
  const uint32_t* pages;
  uint32_t first_unit;  // units: [chunks][blocks][num_kv_heads]

  // What column `index` of the sequence sees.
  __device__ FlashRange visible(const FlashAttention& launch, uint32_t index) const {
    const auto minus = [](uint32_t a, uint32_t b) { return a > b ? a - b : 0; };
    const uint32_t at = position + index;
    FlashRange range{0, launch.is_causal ? at + 1 : end};
    if (launch.window == 0) return range;
    range.begin = launch.is_window_before_step ? minus(position, launch.window)
                                               : minus(at + 1, launch.window);
    if (!launch.is_causal && !launch.is_window_before_step) {
      range.end = min(end, at + launch.window);
    }
    return range;
  }
};

inline constexpr uint32_t kLogFlashRows = 7;
static_assert(1 << kLogFlashRows == kFlashRows);

struct FlashShape {
  __device__ explicit FlashShape(const FlashAttention& launch) {
    num_kv_heads = launch.cache.num_kv_heads;
    heads = launch.num_q_heads / num_kv_heads;
    group = flash_group(heads);
    log_group = __popc(group - 1);
    block_columns = kFlashRows >> log_group;
  }

  __device__ uint32_t blocks(uint32_t num_columns) const {
    return (num_columns + block_columns - 1) >> (kLogFlashRows - log_group);
  }
  __device__ static uint32_t chunks(const FlashAttention& launch, uint32_t end) {
    return launch.window != 0 ? 1 : FlashChunks(launch.chunk_positions).count(end);
  }

  uint32_t heads;  // query heads of a KV head
  uint32_t group;  // their rows: a power of two
  uint32_t log_group;
  uint32_t block_columns, num_kv_heads;
};

struct FlashQuotient {
  uint32_t quotient, remainder;
};
// Mostly by one, without the 40 instructions of a division.
__device__ __forceinline__ FlashQuotient divide(uint32_t value, uint32_t by) {
  if (by == 1) return {value, 0};
  return {value / by, value % by};
}

struct FlashUnit {
  const FlashSequence* sequence;
  uint32_t first_column, num_columns;  // within the sequence
  uint32_t kv_head;
  uint32_t begin_step, end_step;  // FlashStep
  uint32_t begin_tile;            // may be in the first step, not at its begin
};

struct FlashPlan {
  FlashSequence sequences[kMaxFlashColumns];
  uint32_t num_sequences, num_units;
  uint32_t end_column;  // of the launch

  // For one whole warp; a CTA barrier follows.
  __device__ void make(const FlashAttention& launch) {
    const FlashShape shape(launch);
    const StepHead step(launch.step);
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t end = min(step.num_columns, launch.first_column + kMaxFlashColumns);
    uint32_t sequences_before = 0, units_before = 0;
    for (uint32_t base = launch.first_column; base < end; base += 32) {
      const uint32_t t = base + lane;
      FlashSequence sequence = {};
      uint32_t units = 0;
      bool is_first = false;
      if (t < end) {
        const StepColumn& column = step.columns[t];
        is_first = column.first_column == t || t == launch.first_column;
        const uint32_t num_columns = min(column.end_column, end) - t;
        sequence = {t,
                    num_columns,
                    column.position,
                    column.position + num_columns,
                    column.sequence,
                    step.pages + column.first_page,
                    0};
        units = is_first ? shape.blocks(sequence.num_columns) * shape.num_kv_heads *
                               FlashShape::chunks(launch, sequence.end)
                         : 0;
      }
      uint32_t sum = units;
#pragma unroll
      for (uint32_t offset = 1; offset < 32; offset *= 2) {
        const uint32_t other = __shfl_up_sync(~0u, sum, offset);
        if (lane >= offset) sum += other;
      }
      const uint32_t firsts = __ballot_sync(~0u, is_first);
      if (is_first) {
        sequence.first_unit = units_before + sum - units;
        this->sequences[sequences_before + __popc(firsts & ((1u << lane) - 1))] = sequence;
      }
      sequences_before += __popc(firsts);
      units_before += __shfl_sync(~0u, sum, 31);
    }
    if (lane != 0) return;
    num_sequences = sequences_before;
    num_units = units_before;
    end_column = end;
  }

  template <class Step>
  __device__ FlashUnit unit(const FlashAttention& launch, uint32_t index) const {
    const FlashShape shape(launch);
    uint32_t i = 0;
    while (i + 1 < num_sequences && sequences[i + 1].first_unit <= index) ++i;
    const FlashSequence& sequence = sequences[i];
    const uint32_t blocks = shape.blocks(sequence.num_columns);
    const auto [block_unit, kv_head] = divide(index - sequence.first_unit, shape.num_kv_heads);
    const auto [chunk, block] = divide(block_unit, blocks);
    FlashUnit unit;
    unit.sequence = &sequence;
    unit.kv_head = kv_head;
    unit.first_column = block * shape.block_columns;
    unit.num_columns = min(shape.block_columns, sequence.num_columns - unit.first_column);
    FlashRange range = {sequence.visible(launch, unit.first_column).begin,
                        sequence.visible(launch, unit.first_column + unit.num_columns - 1).end};
    if (launch.window == 0) {
      const FlashChunks chunks(launch.chunk_positions);
      range.begin = max(range.begin, chunks.begin(chunk));
      range.end = min(range.end, chunks.begin(chunk + 1));
    }
    unit.begin_tile = range.begin / kKvTilePositions;
    unit.begin_step = range.begin / Step::kPositions;
    unit.end_step = max(unit.begin_step, (range.end + Step::kPositions - 1) / Step::kPositions);
    return unit;
  }
};

}  // namespace ultraspeed::cuda
