// Partial sums of experts' down whose K-chunks share pages: the GPU cuts them where a page ends,
// the CPU between blocks, so that only their sums over chunks are alike.
#pragma once

#include <span>
#include <variant>
#include <vector>

#include "cuda/machine.h"
#include "cuda/tile/mxfp4_page.h"
#include "program/program.h"

namespace ultraspeed::test {

inline bool has_other_chunks(const program::Program& program, const cuda::Machine& gpu,
                             uint32_t stage) {
  const auto* op = std::get_if<program::ExpertDownOperands>(&program.stages[stage].operands);
  return op != nullptr && gpu.form(op->weight) != cuda::WeightForm::kCanonical &&
         !cuda::has_own_page(cuda::down_chunk_columns(program, op->intermediate_size));
}

// [columns, hidden_size], of [columns, kReductionChunks, hidden_size].
inline std::vector<float> sums_over_chunks(const program::Program& program,
                                           std::span<const float> partials) {
  const uint64_t size = program.hidden_size, chunks = program::kReductionChunks;
  std::vector<float> sums(partials.size() / chunks);
  for (uint64_t i = 0; i < partials.size(); ++i) {
    sums[i / (chunks * size) * size + i % size] += partials[i];
  }
  return sums;
}

}  // namespace ultraspeed::test
