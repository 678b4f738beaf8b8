// What the projections share: the columns of a buffer, normalised or not, as inputs of multiply().
#pragma once

#include <cstdint>

#include "cpu/machine.h"
#include "cpu/math.h"
#include "program/operands.h"

namespace ultraspeed::cpu {

// Scratch slots, so that helpers and their callers do not share an array.
enum ScratchSlot : size_t { kNormed, kJoined, kEmbedding, kResults, kScores };

// first + t * stride for all columns of the step.
inline const float* const* column_pointers(const OpContext& context, const float* first,
                                           size_t stride) {
  const float** columns = context.scratch->pointers(context.num_columns());
  for (uint32_t t = 0; t < context.num_columns(); ++t) columns[t] = first + t * stride;
  return columns;
}

// norm(hidden[t]) of all columns of the step: [num_columns, H]. The tasks of a worker that follow
// each other mostly want the same.
inline const float* normed_rows(const OpContext& context, const program::NormRef& norm,
                                program::BufferId hidden) {
  const uint32_t size = context.hidden_size();
  if (norm.weight == program::kNoId) return context.buffer(hidden);
  float* out = context.scratch->floats(kNormed, uint64_t{context.num_columns()} * size);
  if (!context.scratch->replace_normed(context.rank(), hidden, norm.weight)) return out;
  const float* x = context.buffer(hidden);
  const float* weight = context.vector(norm.weight);
  for (uint32_t t = 0; t < context.num_columns(); ++t) {
    rms_norm(x + uint64_t{t} * size, weight, norm.epsilon, size, out + uint64_t{t} * size);
  }
  return out;
}

inline const float* const* normed_columns(const OpContext& context, const program::NormRef& norm,
                                          program::BufferId hidden) {
  return column_pointers(context, normed_rows(context, norm, hidden), context.hidden_size());
}

}  // namespace ultraspeed::cpu
