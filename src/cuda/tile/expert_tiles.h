// How a prefill step is cut for the expert products: a *tile* is at most 64 of the pairs (token,
// expert) of a live slot, columns of an operand that the experts' weights are multiplied with. A
// slot with many pairs has several tiles of nearly equal size. Host and device.
#pragma once

#include <cstdint>

#include "tensor/host_device.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kMaxTileColumns = 64;

struct ExpertTile {
  uint32_t expert;
  uint32_t first_pair, num_pairs;  // of the route table
  uint32_t columns;                // num_pairs, rounded up to a multiple of 8
  uint32_t first_column;           // columns of the tiles before it
};

// Of a slot with `pairs` pairs.
US_HOST_DEVICE constexpr uint32_t slot_tiles(uint32_t pairs) {
  return (pairs + kMaxTileColumns - 1) / kMaxTileColumns;
}
// Columns of all its tiles but the last, which has the rest. REQUIRES: pairs > 0.
US_HOST_DEVICE constexpr uint32_t tile_columns(uint32_t pairs) {
  const uint32_t tiles = slot_tiles(pairs);
  return ((pairs + tiles - 1) / tiles + 7) / 8 * 8;
}

// A view over 4-byte words of a buffer, written by launch_expert_tiles():
//   num_tiles | tiles[max_tiles] | token_pairs[num_tokens][experts_per_token]
// token_pairs are the pairs of a token, ascending (so experts ascend), then kNoId.
struct ExpertTiles {
  uint32_t* num_tiles = nullptr;
  ExpertTile* tile = nullptr;
  uint32_t* token_pairs = nullptr;

  static constexpr uint32_t max_tiles(uint32_t max_slots, uint32_t max_pairs) {
    return max_slots + max_pairs / kMaxTileColumns;
  }
  // Of all tiles: each adds less than 8 to its pairs.
  static constexpr uint32_t max_columns(uint32_t max_slots, uint32_t max_pairs) {
    return max_pairs + 7 * max_tiles(max_slots, max_pairs);
  }
  static constexpr uint64_t words(uint32_t max_slots, uint32_t max_pairs,
                                  uint32_t num_token_pairs) {
    return 1 + uint64_t{max_tiles(max_slots, max_pairs)} * (sizeof(ExpertTile) / 4) +
           num_token_pairs;
  }
  static ExpertTiles at(uint32_t* words, uint32_t max_slots, uint32_t max_pairs) {
    ExpertTiles tiles;
    tiles.num_tiles = words;
    tiles.tile = reinterpret_cast<ExpertTile*>(words + 1);
    tiles.token_pairs = words + 1 + max_tiles(max_slots, max_pairs) * (sizeof(ExpertTile) / 4);
    return tiles;
  }
};

}  // namespace ultraspeed::cuda
