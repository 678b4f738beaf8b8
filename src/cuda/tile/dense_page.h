// The packed form of dense FP8 and BF16 weights on the GPU, in the order in which wgmma wants them
// in registers (ptx/wgmma.cuh), FP8 with its scales in the same page. Host and device.
//
// A *tile* is 64 packed rows: 32 *pairs* of rows, whose sums one thread finishes together. Pair p
// of a tile is packed rows 16 (p / 8) + p % 8 and that + 8. Which row of the matrix a packed row
// is, an order says (pack_dense.h).
//
// A page is 64 rows x kColumns columns. Two warpgroups share it, each takes a *slab* of
// kBlockColumns columns, which it sums on the tensor cores before anything else is added. In bytes:
//   codes   [2 slabs][4][4 warps][32 lanes][16]
//   scales  FP8 only: f32 [2 slabs][4 warps][8 g][2], of rows 16 warp + g and 16 warp + g + 8
// With g = lane / 4, t = lane % 4, r = 16 warp + g, the 16 bytes of a lane are
//   FP8: for two steps of 16 columns each: of row r columns 2 t, 2 t + 1, 8 + 2 t, 9 + 2 t; the
//   same
//        of row r + 8
//   BF16: of one step: of row r columns 2 t, 2 t + 1; of row r + 8 the same; of row r columns
//        8 + 2 t, 9 + 2 t; of row r + 8 the same
//
// A matrix is [tiles][pages of a row] pages. K, or each of its chunks, is filled up with zeros to
// whole pages (PagedRow), which are cut in quarters, one for each CTA of a cluster: of ceil(pages /
// 4) pages from the first on, the last ones of what is left, of few pages none.
#pragma once

#include <cstdint>

#include "tensor/host_device.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {

inline constexpr uint32_t kDenseTileRows = 64;
inline constexpr uint32_t kDenseTilePairs = kDenseTileRows / 2;
inline constexpr uint32_t kDenseRanks = 4;  // CTAs of a cluster
inline constexpr uint32_t kDenseSlabs = 2;
inline constexpr uint32_t kDenseQuads = 4;  // 16-byte words of a lane in a slab
inline constexpr uint32_t kDenseStepColumns = 16;

// The packed row of a tile that is half `half` (0 or 1) of pair `pair`.
US_HOST_DEVICE constexpr uint32_t dense_tile_row(uint32_t pair, uint32_t half) {
  return pair / 8 * 16 + pair % 8 + half * 8;
}

struct DensePage {
  static constexpr uint32_t kCodeBytes = kDenseSlabs * kDenseQuads * 4 * 32 * 16;

  // The 16 bytes of a lane.
  US_HOST_DEVICE static constexpr uint32_t codes(uint32_t slab, uint32_t quad, uint32_t warp,
                                                 uint32_t lane) {
    return ((slab * kDenseQuads + quad) * 4 + warp) * 512 + lane * 16;
  }

 protected:
  // The lane's bytes that hold a row and a column of a step.
  US_HOST_DEVICE static constexpr uint32_t lane_codes(uint32_t slab, uint32_t quad, uint32_t row,
                                                      uint32_t step_column) {
    return codes(slab, quad, row / 16, row % 8 * 4 + step_column % 8 / 2);
  }
};

struct Fp8Page : DensePage {
  static constexpr tensor::WeightFormat kFormat = tensor::WeightFormat::kFp8Block128;
  static constexpr uint32_t kElementBytes = 1;
  static constexpr uint32_t kBlockColumns = tensor::kFp8BlockColumns;
  static constexpr uint32_t kScaleColumns = kBlockColumns;
  static constexpr uint32_t kColumns = kDenseSlabs * kBlockColumns;
  static constexpr uint32_t kBytes = kCodeBytes + kDenseSlabs * kDenseTileRows * 4;

  US_HOST_DEVICE static constexpr uint32_t element(uint32_t row, uint32_t column) {
    const uint32_t step = column % kBlockColumns / kDenseStepColumns;
    const uint32_t k = column % kDenseStepColumns;
    return lane_codes(column / kBlockColumns, step / 2, row, k) + step % 2 * 8 + row % 16 / 8 * 4 +
           k / 8 * 2 + k % 2;
  }
  // f32 [2]: rows 16 warp + g and 16 warp + g + 8.
  US_HOST_DEVICE static constexpr uint32_t scales(uint32_t slab, uint32_t warp, uint32_t g) {
    return kCodeBytes + ((slab * 4 + warp) * 8 + g) * 8;
  }
  US_HOST_DEVICE static constexpr uint32_t scale(uint32_t row, uint32_t slab) {
    return scales(slab, row / 16, row % 8) + row % 16 / 8 * 4;
  }
};

struct Bf16Page : DensePage {
  static constexpr tensor::WeightFormat kFormat = tensor::WeightFormat::kBf16;
  static constexpr uint32_t kElementBytes = 2;
  static constexpr uint32_t kBlockColumns = 64;
  static constexpr uint32_t kScaleColumns = 1;
  static constexpr uint32_t kColumns = kDenseSlabs * kBlockColumns;
  static constexpr uint32_t kBytes = kCodeBytes;

  US_HOST_DEVICE static constexpr uint32_t element(uint32_t row, uint32_t column) {
    const uint32_t k = column % kDenseStepColumns;
    return lane_codes(column / kBlockColumns, column % kBlockColumns / kDenseStepColumns, row, k) +
           (k / 8 * 2 + row % 16 / 8) * 4 + k % 2 * 2;
  }
};
static_assert(Fp8Page::kBytes == 16896 && Bf16Page::kBytes == 16384);

// A row of `columns` columns in `num_chunks` K-chunks, as it lies in pages of page_columns. Columns
// that share a scale, scale_columns from a multiple of that on (a power of two, or 1), lie in one
// block of as many: chunks of a multiple or a divisor of scale_columns begin where a page does, one
// of others as far behind it as in such a block.
struct PagedRow {
  static constexpr uint32_t kFilling = ~0U;

  US_HOST_DEVICE constexpr PagedRow(uint32_t page_columns, uint32_t scale_columns, uint32_t columns,
                                    uint32_t of_chunks = 1)
      : num_chunks(of_chunks),
        chunk_columns(columns / of_chunks),
        block(of_chunks == 1 || chunk_columns % scale_columns == 0 ||
                      scale_columns % chunk_columns == 0
                  ? 1
                  : scale_columns),
        chunk_pages((chunk_columns + most_offset() + page_columns - 1) / page_columns),
        padded_chunk(chunk_pages * page_columns) {}

  US_HOST_DEVICE constexpr uint32_t pages() const { return chunk_pages * num_chunks; }
  US_HOST_DEVICE constexpr uint32_t size() const { return padded_chunk * num_chunks; }
  // Where a chunk begins in its pages.
  US_HOST_DEVICE constexpr uint32_t offset(uint32_t chunk) const {
    return chunk * chunk_columns % block;
  }
  // The column that lies at `place`, or kFilling.
  US_HOST_DEVICE constexpr uint32_t column(uint32_t place) const {
    const uint32_t chunk = place / padded_chunk;
    const uint32_t in_chunk = place % padded_chunk - offset(chunk);  // huge in front of it
    return in_chunk < chunk_columns ? chunk * chunk_columns + in_chunk : kFilling;
  }

  uint32_t num_chunks, chunk_columns;
  uint32_t block;  // offsets are below it
  uint32_t chunk_pages, padded_chunk;

 private:
  // Offsets are multiples of the power of two that divides chunk_columns.
  US_HOST_DEVICE constexpr uint32_t most_offset() const {
    const uint32_t step = chunk_columns & (0 - chunk_columns);
    return block - (step < block ? step : block);
  }
};

template <class Page>
US_HOST_DEVICE constexpr PagedRow paged_row(uint32_t columns, uint32_t num_chunks = 1) {
  return PagedRow(Page::kColumns, Page::kScaleColumns, columns, num_chunks);
}
US_HOST_DEVICE constexpr PagedRow paged_row(tensor::WeightFormat format, uint32_t columns,
                                            uint32_t num_chunks) {
  return format == tensor::WeightFormat::kBf16 ? paged_row<Bf16Page>(columns, num_chunks)
                                               : paged_row<Fp8Page>(columns, num_chunks);
}

// Bytes of a matrix of `rows` rows, which are filled up to whole tiles.
template <class Page>
constexpr uint64_t dense_bytes(uint32_t rows, uint32_t columns, uint32_t num_chunks) {
  return uint64_t{(rows + kDenseTileRows - 1) / kDenseTileRows} *
         paged_row<Page>(columns, num_chunks).pages() * Page::kBytes;
}

}  // namespace ultraspeed::cuda
