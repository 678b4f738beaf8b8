// What the projections share: normalised inputs, and one weight row against all columns.
#pragma once

#include <cstdint>

#include "cpu/machine.h"
#include "cpu/math.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

// Scratch slots, so that helpers and their callers do not share an array.
enum ScratchSlot : size_t { kNormed, kWeightRow, kResults, kScores };

// norm(hidden[t]) of all columns of the step: [num_columns, H].
inline const float* normed_columns(const OpContext& context, const program::NormRef& norm,
                                   program::BufferId hidden) {
  const uint32_t size = context.hidden_size();
  const float* x = context.buffer(hidden);
  const float* weight = context.vector(norm.weight);
  float* out = context.scratch->floats(kNormed, uint64_t{context.num_columns()} * size);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    rms_norm(x + t * size, weight, norm.epsilon, size, out + t * size);
  }
  return out;
}

// The row of a matrix as f32 [matrix.cols].
inline const float* weight_row(const OpContext& context, const Matrix& matrix, uint32_t row) {
  float* out = context.scratch->floats(kWeightRow, matrix.cols);
  dequantize_row(matrix, row, 0, matrix.cols, out);
  return out;
}

}  // namespace ultraspeed::cpu
