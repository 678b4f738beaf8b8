// How the GPU keeps keys and values: tiles of 64 positions of one KV head, each the B operands of
// its wgmma products (ptx/wgmma_shared.cuh) as they lie in shared memory, so that one bulk copy
// brings a tile. Host and device; the definition of the format.
//
// A tile holds positions 64 i .. 64 i + 63 of a sequence. With E = 16 / element size (16 codes of
// e4m3, 8 of bf16), in bytes:
//   keys    [8 groups of 8 positions][head_dim / E][8 positions][E]
//   values  [v_head_dim / 8][64 / E][8 dimensions][E positions]: transposed, for P * V has its sums
//           along positions
// In e4m3 the 16 positions of a piece of `values` are permuted as the scores of a product lie in
// registers, where they become operand A without a move: byte 4 t + i is position 8 (i / 2) + 2 t +
// i % 2.
//
// Codes and scales: tensor/kv_rounding.h. What is attended to is code * scale, also by the block
// that wrote it.
//
// A row with a NaN or an infinity, in its keys or its values, has NaN keys and zero values: whoever
// sees it gets NaN, and nobody else. A slot that was never written may hold anything.
//
// head_dim and v_head_dim above are the tile's: heads of fewer dimensions are filled up with zeros,
// so that they take as many bytes.
//
// Paged: tiles [page][num_kv_heads][page_positions / 64]; rings: [sequence][num_kv_heads]
// [ring_positions / 64], position p in slot p % ring_positions.
#pragma once

#include <cstdint>

#include <cstddef>

#include "tensor/host_device.h"
#include "tensor/kv_rounding.h"

namespace ultraspeed::cuda {

enum class KvFormat : uint8_t { kE4m3, kBf16 };

inline constexpr uint32_t kKvTilePositions = 64;

using tensor::KvScales;

// kPositions: of the tile; kKvTilePositions in a cache, other multiples of kPiece elsewhere.
template <KvFormat kFormatIn, uint32_t kHeadDimIn, uint32_t kValueDimIn,
          uint32_t kPositionsIn = kKvTilePositions>
struct KvTile {
  static constexpr KvFormat kFormat = kFormatIn;
  static constexpr uint32_t kHeadDim = kHeadDimIn, kValueDim = kValueDimIn;
  static constexpr uint32_t kPositions = kPositionsIn;
  static constexpr bool kIsE4m3 = kFormat == KvFormat::kE4m3;
  static constexpr uint32_t kElementBytes = kIsE4m3 ? 1 : 2;
  static constexpr uint32_t kPiece = 16 / kElementBytes;  // elements of 16 bytes
  static_assert(kHeadDim % (2 * kPiece) == 0 && kValueDim % 8 == 0 && kPositions % kPiece == 0);

  // Core matrices of keys (and of queries in shared memory): from 8 rows to the next.
  static constexpr uint32_t kKeyStride = kHeadDim / kPiece * 128;
  static constexpr uint32_t kValueStride = kPositions / kPiece * 128;
  static constexpr uint32_t kKeyBytes = kPositions * kHeadDim * kElementBytes;
  static constexpr uint32_t kValueBytes = kPositions * kValueDim * kElementBytes;
  static constexpr uint32_t kValues = kKeyBytes;
  static constexpr uint32_t kBytes = kKeyBytes + kValueBytes;

  // Of row `row`, also of queries.
  US_HOST_DEVICE static constexpr uint32_t key(uint32_t row, uint32_t d) {
    return row / 8 * kKeyStride + d / kPiece * 128 + row % 8 * 16 + d % kPiece * kElementBytes;
  }
  US_HOST_DEVICE static constexpr uint32_t value(uint32_t slot, uint32_t d) {
    return kValues + d / 8 * kValueStride + slot / kPiece * 128 + d % 8 * 16 +
           place(slot % kPiece) * kElementBytes;
  }

  // Where a position lies in its piece, and which one lies there.
  US_HOST_DEVICE static constexpr uint32_t place(uint32_t position) {
    return kIsE4m3 ? position % 8 / 2 * 4 + position / 8 * 2 + position % 2 : position;
  }
  US_HOST_DEVICE static constexpr uint32_t position(uint32_t place) {
    return kIsE4m3 ? place % 4 / 2 * 8 + place / 4 * 2 + place % 2 : place;
  }
};

// A layer's cache on one rank.
struct KvTiles {
  std::byte* tiles = nullptr;        // aligned to 16
  const KvScales* scales = nullptr;  // device, [num_kv_heads]; nullptr: all 1
  uint32_t num_kv_heads = 1;
  uint32_t ring_positions = 0;  // 0: paged. 64 divides it; at least window + columns of a step
  uint32_t page_positions = 0;  // 64 divides it
  uint32_t head_dim = 0, v_head_dim = 0;  // of the heads: multiples of 8, at most the tile's

  US_HOST_DEVICE KvScales scale(uint32_t kv_head) const {
    return scales == nullptr ? KvScales() : scales[kv_head];
  }

  // Tile number of positions 64 i .. 64 i + 63. pages: the sequence's own.
  US_HOST_DEVICE uint64_t tile(uint32_t sequence, const uint32_t* pages, uint32_t kv_head,
                               uint32_t i) const {
    const bool is_ring = ring_positions != 0;
    const uint32_t size = (is_ring ? ring_positions : page_positions) / kKvTilePositions;
    const uint64_t first = is_ring ? sequence : pages[i / size];
    return (first * num_kv_heads + kv_head) * size + i % size;
  }
};

}  // namespace ultraspeed::cuda
