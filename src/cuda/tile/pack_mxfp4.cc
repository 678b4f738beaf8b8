#include "cuda/tile/pack_mxfp4.h"

#include <algorithm>

#include "base/check.h"
#include "cuda/tile/mxfp4_page.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {
namespace {

constexpr uint32_t kCanonicalBlockBytes = kBlockColumns / 2;
constexpr std::byte kFillScale{127};  // 1, of blocks of zeros

// A canonical matrix, const or not.
template <class Byte>
struct Canonical {
  Canonical(std::span<Byte> bytes, uint32_t num_rows, uint32_t num_columns)
      : rows(num_rows),
        columns(num_columns),
        codes(bytes.data()),
        scales(bytes.data() + code_bytes(tensor::WeightFormat::kMxfp4, rows, columns)) {
    US_CHECK(bytes.size() == packed_bytes(tensor::WeightFormat::kMxfp4, rows, columns),
             "{} bytes for [{}, {}]", bytes.size(), rows, columns);
  }

  Byte* block_codes(uint32_t row, uint32_t block) const {
    return codes + (uint64_t{row} * columns / kBlockColumns + block) * kCanonicalBlockBytes;
  }
  Byte& scale(uint32_t row, uint32_t block) const {
    return scales[uint64_t{row} * columns / kBlockColumns + block];
  }

  uint32_t rows, columns;
  Byte* codes;
  Byte* scales;
};

// Where a block of 32 columns of a canonical row lies in the pages.
struct BlockPlace {
  uint64_t page = 0;
  uint32_t slab = 0, block = 0;
  uint32_t row = 0;  // of the 64
};

BlockPlace gate_up_place(uint32_t intermediate, uint32_t hidden, uint32_t row, uint32_t k_block) {
  const bool is_up = row >= intermediate;
  const uint32_t neuron = is_up ? row - intermediate : row;
  const uint32_t pages_per_tile = hidden / kGateUpPageColumns;
  const uint32_t in_page = k_block % (kGateUpSlabs * kSlabBlocks);
  const uint32_t in_tile = neuron % kTileNeurons;
  return {uint64_t{neuron / kTileNeurons} * pages_per_tile + k_block / (kGateUpSlabs * kSlabBlocks),
          in_page / kSlabBlocks, in_page % kSlabBlocks,
          in_tile / 8 * 16 + in_tile % 8 + (is_up ? 8 : 0)};
}

BlockPlace down_place(uint32_t intermediate, uint32_t row, uint32_t k_block) {
  const uint32_t chunks = intermediate / kDownChunkColumns;
  return {down_page(row / kBlockRows, k_block / kSlabBlocks, chunks), 0, k_block % kSlabBlocks,
          row % kBlockRows};
}

template <class Page, class Byte>
Byte& scale_of(Byte* pages, const BlockPlace& place) {
  Byte* page = pages + place.page * Page::kBytes;
  const uint32_t in_warp = place.row % 16;
  return page[Page::scales(place.slab, place.row / 16, in_warp % 8) + place.block * 2 +
              in_warp / 8];
}

template <class Page, class Byte>
Byte* codes_of(Byte* pages, const BlockPlace& place) {
  return pages + place.page * Page::kBytes + Page::codes(place.slab, place.block, 0, 0);
}

uint8_t code_at(const std::byte* block_codes, uint32_t k) {
  return tensor::mxfp4_code(reinterpret_cast<const uint8_t*>(block_codes), k);
}

bool is_zero(const std::byte* block_codes) {
  return std::all_of(block_codes, block_codes + kCanonicalBlockBytes,
                     [](std::byte pair) { return (pair & std::byte{0x77}) == std::byte{0}; });
}

template <class Page, class PlaceOf>
Status pack(const Canonical<const std::byte>& from, std::span<std::byte> pages,
            const PlaceOf& place_of) {
  US_CHECK(pages.size() == packed_bytes(tensor::WeightFormat::kMxfp4, from.rows, from.columns),
           "{} bytes of pages for [{}, {}]", pages.size(), from.rows, from.columns);
  for (uint32_t row = 0; row < from.rows; ++row) {
    for (uint32_t k_block = 0; k_block < from.columns / kBlockColumns; ++k_block) {
      const std::byte* codes = from.block_codes(row, k_block);
      std::byte scale = from.scale(row, k_block);
      if (scale == std::byte{0} && is_zero(codes)) scale = std::byte{1};
      if (scale == std::byte{0} || scale == std::byte{tensor::kE8m0Nan}) {
        return make_error(ErrorCode::kUnsupported,
                          "row {}, columns from {}: the GPU layout has no MXFP4 scale {} ({}); "
                          "expected 1 to 254",
                          row, k_block * kBlockColumns, static_cast<uint32_t>(scale),
                          scale == std::byte{0} ? "2^-127" : "NaN");
      }
      const BlockPlace place = place_of(row, k_block);
      scale_of<Page>(pages.data(), place) = scale;
      std::byte* block = codes_of<Page>(pages.data(), place);
      for (uint32_t k = 0; k < kBlockColumns / 2; ++k) {
        block[code_place(place.row, k).byte] =
            std::byte{code_byte(code_at(codes, k), code_at(codes, k + kBlockColumns / 2))};
      }
    }
  }
  return {};
}

template <class Page, class PlaceOf>
void unpack(std::span<const std::byte> pages, const Canonical<std::byte>& to,
            const PlaceOf& place_of) {
  for (uint32_t row = 0; row < to.rows; ++row) {
    for (uint32_t k_block = 0; k_block < to.columns / kBlockColumns; ++k_block) {
      const BlockPlace place = place_of(row, k_block);
      to.scale(row, k_block) = scale_of<Page>(pages.data(), place);
      const std::byte* block = codes_of<Page>(pages.data(), place);
      std::byte* codes = to.block_codes(row, k_block);
      for (uint32_t k = 0; k < kBlockColumns; k += 2) {
        const auto code = [&](uint32_t column) {
          const CodePlace at = code_place(place.row, column);
          const auto byte = static_cast<uint8_t>(block[at.byte]);
          return at.is_b ? code_b(byte) : code_a(byte);
        };
        codes[k / 2] = std::byte(code(k) | code(k + 1) << 4);
      }
    }
  }
}

// The matrix with more rows and columns, zeros but for what copy_row(row, filled matrix) brings.
template <class CopyRow>
std::vector<std::byte> fill_up(uint32_t num_rows, uint32_t rows, uint32_t columns,
                               const CopyRow& copy_row) {
  std::vector<std::byte> filled(packed_bytes(tensor::WeightFormat::kMxfp4, rows, columns));
  const Canonical<std::byte> to(filled, rows, columns);
  std::fill_n(&to.scale(0, 0), uint64_t{rows} * (columns / kBlockColumns), kFillScale);
  for (uint32_t row = 0; row < num_rows; ++row) copy_row(row, to);
  return filled;
}

// A row whose columns stay where they are.
void copy_row(const Canonical<const std::byte>& from, uint32_t row,
              const Canonical<std::byte>& to) {
  const uint32_t blocks = from.columns / kBlockColumns;
  std::copy_n(from.block_codes(row, 0), blocks * kCanonicalBlockBytes, to.block_codes(row, 0));
  std::copy_n(&from.scale(row, 0), blocks, &to.scale(row, 0));
}

// A row whose K-chunks have pages of their own.
void spread_row(const Canonical<const std::byte>& from, uint32_t row, uint32_t chunk_columns,
                const Canonical<std::byte>& to) {
  for (uint32_t k = 0; k < from.columns; ++k) {
    const uint32_t at = down_column(k, chunk_columns);
    const std::byte code{code_at(from.block_codes(row, 0), k)};
    to.block_codes(row, 0)[at / 2] |= at % 2 == 0 ? code : code << 4;
    to.scale(row, at / kBlockColumns) = from.scale(row, k / kBlockColumns);
  }
}

void check_gate_up(uint32_t intermediate, uint32_t hidden) {
  US_CHECK(intermediate % kTileNeurons == 0 && hidden % kGateUpPageColumns == 0,
           "gate/up of {} neurons with {} inputs", intermediate, hidden);
}

void check_down(uint32_t hidden, uint32_t intermediate) {
  US_CHECK(hidden % kDownGroupRows == 0 && intermediate % kDownChunkColumns == 0, "down [{}, {}]",
           hidden, intermediate);
}

}  // namespace

Status pack_gate_up(std::span<const std::byte> canonical, uint32_t intermediate, uint32_t hidden,
                    std::span<std::byte> pages) {
  check_gate_up(intermediate, hidden);
  return pack<GateUpPage>(
      Canonical<const std::byte>(canonical, 2 * intermediate, hidden), pages,
      [&](uint32_t row, uint32_t k) { return gate_up_place(intermediate, hidden, row, k); });
}

void unpack_gate_up(std::span<const std::byte> pages, uint32_t intermediate, uint32_t hidden,
                    std::span<std::byte> canonical) {
  check_gate_up(intermediate, hidden);
  unpack<GateUpPage>(
      pages, Canonical<std::byte>(canonical, 2 * intermediate, hidden),
      [&](uint32_t row, uint32_t k) { return gate_up_place(intermediate, hidden, row, k); });
}

Status pack_down(std::span<const std::byte> canonical, uint32_t hidden, uint32_t intermediate,
                 std::span<std::byte> pages) {
  check_down(hidden, intermediate);
  return pack<DownPage>(Canonical<const std::byte>(canonical, hidden, intermediate), pages,
                        [&](uint32_t row, uint32_t k) { return down_place(intermediate, row, k); });
}

void unpack_down(std::span<const std::byte> pages, uint32_t hidden, uint32_t intermediate,
                 std::span<std::byte> canonical) {
  check_down(hidden, intermediate);
  unpack<DownPage>(pages, Canonical<std::byte>(canonical, hidden, intermediate),
                   [&](uint32_t row, uint32_t k) { return down_place(intermediate, row, k); });
}

std::vector<std::byte> fill_up_gate_up(std::span<const std::byte> canonical, uint32_t intermediate,
                                       uint32_t hidden) {
  US_CHECK(hidden % kBlockColumns == 0, "{} columns", hidden);
  const Canonical<const std::byte> from(canonical, 2 * intermediate, hidden);
  return fill_up(from.rows, from.rows, gate_up_columns(hidden),
                 [&](uint32_t row, const auto& to) { copy_row(from, row, to); });
}

std::vector<std::byte> fill_up_down(std::span<const std::byte> canonical, uint32_t hidden,
                                    uint32_t intermediate, uint32_t chunk_columns) {
  US_CHECK(intermediate % chunk_columns == 0 && intermediate % kBlockColumns == 0,
           "{} columns in chunks of {}", intermediate, chunk_columns);
  const Canonical<const std::byte> from(canonical, hidden, intermediate);
  const bool is_spread = has_own_page(chunk_columns);
  return fill_up(hidden, padded_down_rows(hidden), padded_down_columns(intermediate, chunk_columns),
                 [&](uint32_t row, const auto& to) {
                   is_spread ? spread_row(from, row, chunk_columns, to) : copy_row(from, row, to);
                 });
}

}  // namespace ultraspeed::cuda
