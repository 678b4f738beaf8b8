// The one data-dependent piece of a step: which experts are live, with which columns and weights.
// Written by Route, indexed by ExpertGateUp and ExpertDown. A view over 4-byte words of a buffer.
#pragma once

#include <cstdint>

#include "tensor/host_device.h"

namespace ultraspeed::program {

// Layout, in words: num_slots | expert[max_slots] | pair_begin[max_slots + 1] |
// pair_column[max_pairs] | pair_weight[max_pairs] (f32). Slots ascend by expert id; the pairs of
// slot s are [pair_begin[s], pair_begin[s + 1]), columns ascending.
struct RouteTable {
  uint32_t* num_slots = nullptr;
  uint32_t* expert = nullptr;       // [max_slots]
  uint32_t* pair_begin = nullptr;   // [max_slots + 1]
  uint32_t* pair_column = nullptr;  // [max_pairs]
  float* pair_weight = nullptr;     // [max_pairs]

  US_HOST_DEVICE static RouteTable at(uint32_t* words, uint32_t max_slots, uint32_t max_pairs) {
    RouteTable table;
    table.num_slots = words;
    table.expert = words + 1;
    table.pair_begin = table.expert + max_slots;
    table.pair_column = table.pair_begin + max_slots + 1;
    table.pair_weight = reinterpret_cast<float*>(table.pair_column + max_pairs);
    return table;
  }

  US_HOST_DEVICE static constexpr uint64_t words(uint32_t max_slots, uint32_t max_pairs) {
    return uint64_t{2} + 2 * uint64_t{max_slots} + 2 * uint64_t{max_pairs};
  }
};

}  // namespace ultraspeed::program
