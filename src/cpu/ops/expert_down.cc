// ExpertDown: one live expert's share of a band of hidden rows, added to the rows' partial sums.
#include <algorithm>

#include "cpu/math.h"
#include "cpu/ops/columns.h"
#include "cpu/ops/ops.h"
#include "cpu/ops/partials.h"
#include "program/route_table.h"

namespace ultraspeed::cpu {

// With the last slot's turn those of all slots: rows by rows, so that their partial sums stay in
// the first-level cache. A worker mostly comes here when all units of ExpertGateUp are done.
Status run_op(const OpContext& context, const program::ExpertDownOperands& op, uint32_t slot) {
  constexpr uint32_t kBandRows = 64;
  const auto table = program::RouteTable::at(context.words(op.route), op.max_slots, op.max_pairs);
  const uint32_t num_slots = *table.num_slots;
  if (slot + 1 < num_slots) return {};
  const Partials partials(context, op.weight, op.partials, op.to_all != 0);
  const uint32_t num_pairs = table.pair_begin[num_slots];
  const Inputs x = all_inputs(
      context,
      rows_for(context, context.matrix(op.weight), context.buffer(op.activation), num_pairs),
      num_pairs);
  const uint32_t chunks = partials.num_chunks();
  // Chunk 0 is the first of this rank's chunks on the first rank alone.
  const bool adds_bias =
      op.bias != program::kNoId && context.program.first_chunk(context.rank()) == 0;
  const uint32_t num_sums = context.num_columns() * chunks;
  float* sums = context.scratch->floats(kResults, uint64_t{num_sums} * kBandRows);
  for (uint32_t begin = context.task.row_begin; begin < context.row_end(); begin += kBandRows) {
    const uint32_t rows = std::min(kBandRows, context.row_end() - begin);
    std::fill_n(sums, uint64_t{num_sums} * kBandRows, 0.0F);
    for (uint32_t s = 0; s < num_slots; ++s) {
      const uint32_t first = table.pair_begin[s];
      const Matrix weight = context.matrix(op.weight, table.expert[s]);
      multiply({weight, begin, rows, chunks}, x.from(first), table.pair_begin[s + 1] - first,
               {.first = sums,
                .input_stride = uint64_t{chunks} * kBandRows,
                .chunk_stride = kBandRows,
                .places = table.pair_column + first,
                .weights = table.pair_weight + first});
      if (!adds_bias) continue;
      for (uint32_t p = first; p < table.pair_begin[s + 1]; ++p) {
        float* row = sums + uint64_t{table.pair_column[p]} * chunks * kBandRows;
        add_weighted_rows({context.vector(op.bias, table.expert[s]) + begin, 0, 1, rows},
                          &table.pair_weight[p], 0, 1, row, 0);
      }
    }
    for (uint32_t i = 0; i < num_sums; ++i) {
      std::copy_n(sums + i * kBandRows, rows, partials.at(i / chunks, i % chunks) + begin);
    }
  }
  partials.send();
  return {};
}

}  // namespace ultraspeed::cpu
