// Embed: this rank's columns of the token's embedding row, to every rank. Blocks share the columns
// of the step.
#pragma once

#include "cuda/ops/context.cuh"
#include "cuda/ops/product.cuh"

namespace ultraspeed::cuda {

template <>
inline constexpr uint32_t kTaskBlocks<program::EmbedOperands> = 128;

// A row of a table [rows, H / ranks].
struct TableRow {
  program::WeightId table;
  uint32_t row;
};

inline __device__ TableRow table_row(const OpContext& context, const program::EmbedOperands& op,
                                     uint32_t t) {
  const StepColumn& column = context.column(t);
  if (op.tokens != kNoId) return {op.table, context.words(op.tokens)[t]};
  if (column.is_drafted == 0) return {op.table, static_cast<uint32_t>(column.token_id)};
  if (op.drafted != kNoId) return {op.table, context.words(op.drafted)[t]};
  if (op.mask != kNoId) return {op.mask, 0};
  return {op.table, op.mask_token_id};
}

template <tensor::WeightFormat kFormat>
__device__ void embed_column(const OpContext& context, const program::EmbedOperands& op, uint32_t t,
                             const Matrix& table, uint32_t row) {
  constexpr uint32_t kAhead = 4;  // loads in flight
  const uint32_t first = context.task.row_begin, count = context.task.row_count;
  const uint32_t in_table = first - context.rank() * table.cols;
  for (uint32_t begin = threadIdx.x; begin < count; begin += kAhead * kTaskThreads) {
    float values[kAhead];
#pragma unroll
    for (uint32_t i = 0; i < kAhead; ++i) {
      const uint32_t k = begin + i * kTaskThreads;
      values[i] = k < count ? weight_at<kFormat>(table, row, in_table + k) : 0.0F;
    }
    for (uint32_t rank = 0; rank < context.num_ranks(); ++rank) {
      float* hidden = context.buffer_of(rank, op.hidden) + uint64_t{t} * context.hidden_size();
#pragma unroll
      for (uint32_t i = 0; i < kAhead; ++i) {
        const uint32_t k = begin + i * kTaskThreads;
        if (k < count) hidden[first + k] = values[i];
      }
    }
  }
}

inline __device__ void run_op(const OpContext& context, const program::EmbedOperands& op) {
  using tensor::WeightFormat;
  for (uint32_t t = blockIdx.y; t < context.num_columns(); t += gridDim.y) {
    const TableRow from = table_row(context, op, t);
    const Matrix table = context.matrix(from.table);
    switch (table.format) {
      case WeightFormat::kF32:
        embed_column<WeightFormat::kF32>(context, op, t, table, from.row);
        break;
      case WeightFormat::kBf16:
        embed_column<WeightFormat::kBf16>(context, op, t, table, from.row);
        break;
      case WeightFormat::kFp8Block128:
        embed_column<WeightFormat::kFp8Block128>(context, op, t, table, from.row);
        break;
      case WeightFormat::kMxfp4:
        embed_column<WeightFormat::kMxfp4>(context, op, t, table, from.row);
        break;
    }
  }
}

}  // namespace ultraspeed::cuda
