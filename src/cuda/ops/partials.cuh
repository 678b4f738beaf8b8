// Where a rank's partial sums of hidden rows go: program/operands.h, OutProj and ExpertDown.
#pragma once

#include "cuda/ops/context.cuh"

namespace ultraspeed::cuda {

// This rank's partial sums at the owner of the task's rows.
struct Partials {
  __device__ Partials(const OpContext& context, program::BufferId id)
      : hidden_size(context.hidden_size()),
        num_chunks(program::kReductionChunks / context.num_ranks()),
        first_chunk(context.rank() * num_chunks),
        data(context.buffer_of(context.task.row_begin / (hidden_size / context.num_ranks()), id)) {}

  // This rank's chunk `chunk` of row `row` for column t.
  __device__ float* at(uint32_t t, uint32_t chunk, uint32_t row) const {
    return data + (uint64_t{t} * program::kReductionChunks + first_chunk + chunk) * hidden_size +
           row;
  }

  uint32_t hidden_size;
  uint32_t num_chunks;
  uint32_t first_chunk;
  float* data;
};

}  // namespace ultraspeed::cuda
