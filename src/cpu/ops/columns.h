// What the projections share: the columns of a buffer, normalised or not, as inputs of multiply().
#pragma once

#include <cstdint>

#include "cpu/kernels/int8.h"
#include "cpu/machine.h"
#include "cpu/math.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

// Scratch slots, so that helpers and their callers do not share an array.
enum ScratchSlot : size_t {
  kNormed,
  kJoined,
  kEmbedding,
  kResults,
  kQueries,
  kScores,
  kHeads,
  kRoundedColumns,
  kRoundedRows,
};

// Vectors of `size` one behind the other, as floats and, where the product wants them, in int8.
struct InputRows {
  const float* floats = nullptr;
  const Int8Block* int8 = nullptr;
  uint32_t size = 0;
};

// The rows row_of(0), ..., row_of(count - 1) as inputs of multiply(); valid until the next call.
template <class RowOf>
Inputs inputs_at(const OpContext& context, const InputRows& rows, uint32_t count, RowOf row_of) {
  const float** floats = context.scratch->pointers(count);
  for (uint32_t i = 0; i < count; ++i) floats[i] = rows.floats + uint64_t{row_of(i)} * rows.size;
  if (rows.int8 == nullptr) return {floats};
  const Int8Block** int8 = context.scratch->block_pointers(count);
  const uint64_t blocks = rows.size / kInt8BlockColumns;
  for (uint32_t i = 0; i < count; ++i) int8[i] = rows.int8 + row_of(i) * blocks;
  return {floats, int8};
}

inline Inputs all_inputs(const OpContext& context, const InputRows& rows, uint32_t count) {
  return inputs_at(context, rows, count, [](uint32_t i) { return i; });
}

// Whether products with `weight` take something else than the floats.
inline bool rounds_inputs(const Matrix& weight) {
  return weight.layout == WeightLayout::kInt8 || weight.rounding != Rounding::kNone;
}

// Rows of floats as products with `weight` take them. is_new: false where the slot has them
// already.
inline InputRows rounded_rows(const OpContext& context, const Matrix& weight, const float* rows,
                              uint32_t count, ScratchSlot slot, bool is_new) {
  const uint32_t size = count * weight.cols;
  if (weight.layout == WeightLayout::kInt8) {
    Int8Block* blocks = context.scratch->blocks(slot, size / kInt8BlockColumns);
    if (is_new) quantize(rows, size, blocks);
    return {rows, blocks, weight.cols};
  }
  float* rounded = context.scratch->floats(slot, size);
  for (uint32_t begin = 0; is_new && begin < size; begin += weight.cols) {
    round_input(weight.rounding, rows + begin, weight.cols, rounded + begin);
  }
  return {rounded, nullptr, weight.cols};
}

// The same, now.
inline InputRows rows_for(const OpContext& context, const Matrix& weight, const float* rows,
                          uint32_t count) {
  if (!rounds_inputs(weight)) return {rows, nullptr, weight.cols};
  return rounded_rows(context, weight, rows, count, kRoundedRows, true);
}

// norm(hidden[t]) of all columns of the step: [num_columns, H]. The tasks of a worker that follow
// each other mostly want the same.
inline const float* normed_columns(const OpContext& context, const program::NormRef& norm,
                                   program::BufferId hidden) {
  const uint32_t size = context.hidden_size();
  if (norm.weight == program::kNoId) return context.buffer(hidden);
  float* out = context.scratch->floats(kNormed, uint64_t{context.num_columns()} * size);
  if (!context.scratch->replace_normed({context.rank(), hidden, norm.weight})) return out;
  const float* x = context.buffer(hidden);
  const float* weight = context.vector(norm.weight);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    rms_norm(x + uint64_t{t} * size, weight, norm.epsilon, size, out + uint64_t{t} * size);
  }
  return out;
}

// The same for products with `weight`: [num_columns, weight.cols] of any buffer.
inline InputRows normed_rows(const OpContext& context, const Matrix& weight,
                             const program::NormRef& norm, program::BufferId buffer) {
  const float* floats = normed_columns(context, norm, buffer);
  if (!rounds_inputs(weight)) return {floats, nullptr, weight.cols};
  const bool is_new =
      context.scratch->replace_rounded({context.rank(), buffer, norm.weight, weight.rounding});
  return rounded_rows(context, weight, floats, context.num_columns(), kRoundedColumns, is_new);
}

// Adds bias[0, count) to each of num_rows rows.
inline void add_bias(const float* bias, uint32_t count, uint32_t num_rows, uint32_t stride,
                     float* rows) {
  for (uint32_t row = 0; row < num_rows; ++row) {
    for (uint32_t i = 0; i < count; ++i) rows[uint64_t{row} * stride + i] += bias[i];
  }
}

// All columns of the step as inputs of products with `weight`.
inline Inputs normed_inputs(const OpContext& context, const Matrix& weight,
                            const program::NormRef& norm, program::BufferId buffer) {
  return all_inputs(context, normed_rows(context, weight, norm, buffer), context.num_columns());
}

}  // namespace ultraspeed::cpu
