#include "cuda/bench/route_words.h"

#include <algorithm>

#include "base/check.h"
#include "program/route_table.h"

namespace ultraspeed::cuda {

std::vector<uint32_t> route_words(std::vector<uint32_t> experts, const RouteSizes& sizes) {
  using program::RouteTable;
  const auto live = static_cast<uint32_t>(experts.size());
  US_CHECK(live <= sizes.max_slots && live <= sizes.num_pairs && sizes.num_pairs <= sizes.max_pairs,
           "{} experts, {} pairs for {} slots, {} pairs", live, sizes.num_pairs, sizes.max_slots,
           sizes.max_pairs);
  std::ranges::sort(experts);
  std::vector<uint32_t> words(RouteTable::words(sizes.max_slots, sizes.max_pairs), 0);
  RouteTable table = RouteTable::at(words.data(), sizes.max_slots, sizes.max_pairs);
  *table.num_slots = live;
  uint32_t pair = 0;
  for (uint32_t slot = 0; slot < live; ++slot) {
    table.expert[slot] = experts[slot];
    table.pair_begin[slot] = pair;
    std::vector<uint32_t> columns;
    for (uint32_t p = slot; p < sizes.num_pairs; p += live) {
      columns.push_back((p + p / live) % sizes.rows);
    }
    std::ranges::sort(columns);
    columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
    for (const uint32_t column : columns) {
      table.pair_column[pair] = column;
      table.pair_weight[pair++] = 1.0F / static_cast<float>(live);
    }
  }
  table.pair_begin[live] = pair;
  return words;
}

}  // namespace ultraspeed::cuda
