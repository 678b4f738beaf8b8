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
  const uint32_t first_pair = table.pair_begin[slot];
  const uint32_t pairs = table.pair_begin[slot + 1] - first_pair;
  const float* activation =
      context.buffer(op.activation) + uint64_t{first_pair} * op.intermediate_size;
  const Matrix weight = context.matrix(op.weight, table.expert[slot]);
  const Inputs x = all_inputs(context, rows_for(context, weight, activation, pairs), pairs);
  const uint32_t rows = end - begin;
  const uint32_t chunks = partials.num_chunks;
  const ProductOutput products{context.scratch->floats(kResults, uint64_t{pairs} * chunks * rows),
                               uint64_t{chunks} * rows, rows};
  multiply({weight, begin, rows, chunks}, x, pairs, products);
  for (uint32_t p = 0; p < pairs; ++p) {
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
      add_weighted_rows({products.at(p, chunk), 0, 1, rows}, table.pair_weight + first_pair + p, 0,
                        1, partials.at(table.pair_column[first_pair + p], chunk) + begin, 0);
    }
  }
  return {};
}

}  // namespace ultraspeed::cpu
