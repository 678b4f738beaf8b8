// ExpertDown: one live expert's share of a band of hidden rows, added to the rows' partial sums.
#include <algorithm>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "program/route_table.h"

namespace ultraspeed::cpu {
namespace {

// This rank's partial sums at the owner of the tile's rows.
struct Partials {
  Partials(const OpContext& context, program::BufferId id)
      : hidden_size(context.hidden_size()),
        num_chunks(program::kReductionChunks / context.program.num_ranks),
        first_chunk(context.rank() * num_chunks),
        data(context.buffer_of(context.task.row_begin / (hidden_size / context.program.num_ranks),
                               id)) {}

  // [H]: this rank's chunk `chunk` for column t.
  float* at(uint32_t t, uint32_t chunk) const {
    return data + (uint64_t{t} * program::kReductionChunks + first_chunk + chunk) * hidden_size;
  }

  uint32_t hidden_size;
  uint32_t num_chunks;
  uint32_t first_chunk;
  float* data;
};

}  // namespace

Status run_op(const OpContext& context, const program::ExpertDownOperands& op, uint32_t slot) {
  const Partials partials(context, op.partials);
  const uint32_t begin = context.task.row_begin;
  const uint32_t end = context.row_end();
  if (slot == 0) {
    for (uint32_t t = 0; t < context.num_columns(); ++t) {
      for (uint32_t chunk = 0; chunk < partials.num_chunks; ++chunk) {
        std::fill(partials.at(t, chunk) + begin, partials.at(t, chunk) + end, 0.0F);
      }
    }
  }
  const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
  const Matrix weight = context.matrix(op.weight, table.expert[slot]);
  const uint32_t chunk_size = op.intermediate_size / partials.num_chunks;
  const float* activation = context.buffer(op.activation);
  for (uint32_t row = begin; row < end; ++row) {
    const float* w = weight_row(context, weight, row);
    for (uint32_t p = table.pair_begin[slot]; p < table.pair_begin[slot + 1]; ++p) {
      const float* h = activation + uint64_t{p} * op.intermediate_size;
      for (uint32_t chunk = 0; chunk < partials.num_chunks; ++chunk) {
        const float product = dot(w + chunk * chunk_size, h + chunk * chunk_size, chunk_size);
        partials.at(table.pair_column[p], chunk)[row] += table.pair_weight[p] * product;
      }
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
