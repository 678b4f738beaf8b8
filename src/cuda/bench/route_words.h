// Route tables (program/route_table.h) for measurements, made by the host.
#pragma once

#include <cstdint>
#include <vector>

namespace ultraspeed::cuda {

struct RouteSizes {
  uint32_t rows = 1;                      // columns that choose experts
  uint32_t num_pairs = 1;                 // that they choose, together
  uint32_t max_slots = 1, max_pairs = 1;  // of the table
};

// Words of a table in which the columns choose equally many of the experts, and each expert has a
// column at least. REQUIRES: no expert twice, at most max_slots and num_pairs of them; num_pairs <=
// max_pairs.
std::vector<uint32_t> route_words(std::vector<uint32_t> experts, const RouteSizes& sizes);

}  // namespace ultraspeed::cuda
