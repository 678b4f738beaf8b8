// What the projections share: the columns of a buffer, normalised or not, as inputs of multiply().
#pragma once

#include <cstdint>

#include "cpu/kernels/int8.h"
#include "cpu/machine.h"
#include "cpu/math.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

// Scratch slots, so that helpers and their callers do not share an array.
enum ScratchSlot : size_t { kNormed, kJoined, kEmbedding, kResults, kQueries, kScores };
enum BlockSlot : size_t { kQuantizedColumns, kQuantizedRows };

// Vectors of `size` one behind the other, as floats and, where the product wants them, quantised.
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

// Rows of floats for products with `weight`, quantised now if it wants that.
inline InputRows rows_for(const OpContext& context, const Matrix& weight, const float* rows,
                          uint32_t count) {
  if (weight.layout != WeightLayout::kInt8) return {rows, nullptr, weight.cols};
  const uint32_t size = count * weight.cols;
  Int8Block* blocks = context.scratch->blocks(kQuantizedRows, size / kInt8BlockColumns);
  quantize(rows, size, blocks);
  return {rows, blocks, weight.cols};
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
  if (weight.layout != WeightLayout::kInt8) return {floats, nullptr, weight.cols};
  const uint32_t size = context.num_columns() * weight.cols;
  Int8Block* blocks = context.scratch->blocks(kQuantizedColumns, size / kInt8BlockColumns);
  if (context.scratch->replace_quantized({context.rank(), buffer, norm.weight})) {
    quantize(floats, size, blocks);
  }
  return {floats, blocks, weight.cols};
}

// All columns of the step as inputs of products with `weight`.
inline Inputs normed_inputs(const OpContext& context, const Matrix& weight,
                            const program::NormRef& norm, program::BufferId buffer) {
  return all_inputs(context, normed_rows(context, weight, norm, buffer), context.num_columns());
}

}  // namespace ultraspeed::cpu
