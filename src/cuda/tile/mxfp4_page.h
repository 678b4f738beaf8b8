// The packed form of MXFP4 expert weights on the GPU, in the order in which wgmma wants them in
// registers (ptx/wgmma.cuh), with their scales in the same page. Host and device.
//
// A *block* is 64 rows x 32 k: 1024 bytes of codes, 64 scales. A *slab* is 8 blocks of the same
// rows, which a warpgroup takes at a time. A page is, in bytes:
//   codes   [slabs][8 blocks][4 warps][32 lanes][8]
//   scales  [slabs][4 warps][8 g][8 blocks][2]
// With g = lane / 4 and t = lane % 4, byte i of a lane's first word (bytes 0 .. 3) has two codes of
// row 16 warp + g: a for k = 4 t + i and b for k = 16 + 4 t + i; the second word has those of row
// 16 warp + g + 8. Scale bytes are E8M0, of rows 16 warp + g and 16 warp + g + 8.
//
// In a code byte: a.sign @7, a.exponent and mantissa @4:2, b.sign @5, b.exponent @6 and @1,
// b.mantissa @0, so that five instructions make eight e4m3 codes out of a word (decode_word); an
// E2M1 value becomes its 2^-6th as e4m3, exactly.
//
// Gate/up: 2 slabs, 17,408 bytes: one tile of 32 neurons, k 512 p .. 512 p + 511 of the tile's page
//   p; block j of slab s has k = 512 p + 32 (8 s + j). Row 16 w + g of a tile is the gate of neuron
//   8 w + g, row 16 w + g + 8 its up row: a thread has both.
//   A matrix is [intermediate / 32 tiles][gate_up_columns(hidden) / 512] pages, filled up with
//   zeros.
// Down: 1 slab, 8,704 bytes: a tile of 64 rows and 256 columns. A matrix is
//   [hidden / 128, rounded up][pages of columns][2 tiles] pages. A K-chunk of 256 columns, or of a
//   divisor of 128, has a page of its own, filled up with zeros; of others all columns together are
//   filled up at their end (down_column()), and the pages shared among them (DownChunk).
// A matrix that is not filled up has as many bytes as in canonical form (tensor/weight_format.h).
#pragma once

#include <cstdint>

#include "tensor/host_device.h"
#include "tensor/mxfp4.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kBlockRows = 64;
inline constexpr uint32_t kBlockColumns = tensor::kMxBlockColumns;
inline constexpr uint32_t kBlockCodeBytes = kBlockRows * kBlockColumns / 2;
inline constexpr uint32_t kSlabBlocks = 8;
inline constexpr uint32_t kSlabColumns = kSlabBlocks * kBlockColumns;  // 256
inline constexpr uint32_t kSlabCodeBytes = kSlabBlocks * kBlockCodeBytes;
inline constexpr uint32_t kSlabScaleBytes = kSlabBlocks * kBlockRows;

// Decoded weights times this are the weights.
inline constexpr float kDecodedUnit = 64.0F;

template <uint32_t kSlabs>
struct Mxfp4Page {
  static constexpr uint32_t kCodeBytes = kSlabs * kSlabCodeBytes;
  static constexpr uint32_t kBytes = kCodeBytes + kSlabs * kSlabScaleBytes;

  // The 8 bytes of a lane.
  US_HOST_DEVICE static constexpr uint32_t codes(uint32_t slab, uint32_t block, uint32_t warp,
                                                 uint32_t lane) {
    return slab * kSlabCodeBytes + block * kBlockCodeBytes + (warp * 32 + lane) * 8;
  }
  // [kSlabBlocks][2]
  US_HOST_DEVICE static constexpr uint32_t scales(uint32_t slab, uint32_t warp, uint32_t g) {
    return kCodeBytes + slab * kSlabScaleBytes + (warp * 8 + g) * kSlabBlocks * 2;
  }
};

inline constexpr uint32_t kGateUpSlabs = 2;
using GateUpPage = Mxfp4Page<kGateUpSlabs>;
using DownPage = Mxfp4Page<1>;
static_assert(GateUpPage::kBytes == 17408 && DownPage::kBytes == 8704);

inline constexpr uint32_t kGateUpPageColumns = kGateUpSlabs * kSlabColumns;  // 512
inline constexpr uint32_t kTileNeurons = kBlockRows / 2;
inline constexpr uint32_t kDownGroupRows = 2 * kBlockRows;  // whose pages of a chunk lie together
inline constexpr uint32_t kDownChunkColumns = kSlabColumns;

// Of a down matrix in pages with `chunks` chunks: the page of a tile of 64 rows and a chunk.
US_HOST_DEVICE constexpr uint32_t down_page(uint32_t tile, uint32_t chunk, uint32_t chunks) {
  return (tile / 2 * chunks + chunk) * 2 + tile % 2;
}

// CTAs of a gate/up cluster, 1, 2 or 4: each has as many of the pages of a tile, at most 3.
inline constexpr uint32_t kGateUpMaxRanks = 4;
US_HOST_DEVICE constexpr uint32_t gate_up_ranks(uint32_t hidden) {
  const uint32_t pages = (hidden + kGateUpPageColumns - 1) / kGateUpPageColumns;
  if (pages <= 3) return 1;
  return pages == 5 || pages == 6 ? 2 : kGateUpMaxRanks;
}
// The columns of gate/up, filled up.
US_HOST_DEVICE constexpr uint32_t gate_up_columns(uint32_t hidden) {
  const uint32_t multiple = gate_up_ranks(hidden) * kGateUpPageColumns;
  return (hidden + multiple - 1) / multiple * multiple;
}

// Whether K-chunks of so many columns have pages of their own.
US_HOST_DEVICE constexpr bool has_own_page(uint32_t chunk_columns) {
  return chunk_columns == kDownChunkColumns || kDownChunkColumns / 2 % chunk_columns == 0;
}
// The rows and columns of down, filled up, where K-chunks have chunk_columns, and where column i
// lies then.
constexpr uint32_t padded_down_rows(uint32_t hidden) {
  return (hidden + kDownGroupRows - 1) / kDownGroupRows * kDownGroupRows;
}
US_HOST_DEVICE constexpr uint32_t padded_down_columns(uint32_t intermediate,
                                                      uint32_t chunk_columns) {
  if (has_own_page(chunk_columns)) return intermediate / chunk_columns * kDownChunkColumns;
  return (intermediate + kDownChunkColumns - 1) / kDownChunkColumns * kDownChunkColumns;
}
US_HOST_DEVICE constexpr uint32_t down_column(uint32_t i, uint32_t chunk_columns) {
  if (!has_own_page(chunk_columns)) return i;
  return i / chunk_columns * kDownChunkColumns + i % chunk_columns;
}

// The pages of columns that a partial sum of down is over: chunk `chunk` of `chunks` that have
// `pages` in all, as many each or about, or none.
struct DownChunk {
  US_HOST_DEVICE constexpr DownChunk(uint32_t chunk, uint32_t chunks, uint32_t pages)
      : first_page(pages == chunks ? chunk : chunk * pages / chunks),
        num_pages(pages == chunks ? 1 : (chunk + 1) * pages / chunks - first_page) {}

  uint32_t first_page, num_pages;
};

// Where element (row, k) of a block lies: a byte of the block's code bytes, and which code of it.
struct CodePlace {
  uint32_t byte;
  bool is_b;
};
US_HOST_DEVICE constexpr CodePlace code_place(uint32_t row, uint32_t k) {
  const uint32_t lane = row % 8 * 4 + k % 16 / 4;
  return {row / 16 * 256 + lane * 8 + row % 16 / 8 * 4 + k % 4, k >= 16};
}

// E2M1 codes a and b as a code byte.
US_HOST_DEVICE constexpr uint8_t code_byte(uint8_t a, uint8_t b) {
  return static_cast<uint8_t>((a & 8) << 4 | (a & 7) << 2 | (b & 8) << 2 | (b & 4) << 4 | (b & 3));
}
US_HOST_DEVICE constexpr uint8_t code_a(uint8_t byte) {
  return static_cast<uint8_t>((byte >> 4 & 8) | (byte >> 2 & 7));
}
US_HOST_DEVICE constexpr uint8_t code_b(uint8_t byte) {
  return static_cast<uint8_t>((byte >> 2 & 8) | (byte >> 4 & 4) | (byte & 3));
}

// Four code bytes as e4m3 codes of value / kDecodedUnit: the a codes, the b codes.
struct DecodedWord {
  uint32_t a, b;
};
US_HOST_DEVICE constexpr DecodedWord decode_word(uint32_t word) {
  return {word & 0x9c9c9c9cu, (word << 2 & 0x8c8c8c8cu) | (word >> 2 & 0x10101010u)};
}

// Byte `index` of four E8M0 bytes as the bits of a float. REQUIRES: it is in 1 .. 254.
US_HOST_DEVICE constexpr uint32_t scale_bits(uint32_t word, uint32_t index) {
  const uint32_t shifted = index == 3 ? word >> 1 : word << (23 - 8 * index);
  return shifted & 0x7f800000u;
}

}  // namespace ultraspeed::cuda
