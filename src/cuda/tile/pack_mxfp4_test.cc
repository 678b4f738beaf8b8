#include "cuda/tile/pack_mxfp4.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "cuda/tile/mxfp4_page.h"
#include "tensor/e4m3.h"
#include "tensor/weight_format.h"

namespace ultraspeed::cuda {
namespace {

using Bytes = std::vector<std::byte>;
constexpr auto kFormat = tensor::WeightFormat::kMxfp4;

// Any codes with scales 1 .. 254.
Bytes random_matrix(uint32_t rows, uint32_t columns, uint32_t seed) {
  Bytes bytes(packed_bytes(kFormat, rows, columns));
  std::mt19937 random(seed);
  const uint64_t codes = code_bytes(kFormat, rows, columns);
  for (uint64_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i < codes ? random() % 256 : 1 + random() % 254);
  }
  return bytes;
}

TEST(Mxfp4Page, DecodesAllCodesExactly) {
  for (uint32_t a = 0; a < 16; ++a) {
    for (uint32_t b = 0; b < 16; ++b) {
      const uint8_t byte = code_byte(static_cast<uint8_t>(a), static_cast<uint8_t>(b));
      EXPECT_EQ(code_a(byte), a);
      EXPECT_EQ(code_b(byte), b);
      for (uint32_t i = 0; i < 4; ++i) {  // the neighbours are ones and must not leak in
        const uint32_t word = ~(0xffu << 8 * i) | uint32_t{byte} << 8 * i;
        const DecodedWord decoded = decode_word(word);
        const auto value = [&](uint32_t codes) {
          return tensor::e4m3_to_float(static_cast<uint8_t>(codes >> 8 * i)) * kDecodedUnit;
        };
        EXPECT_EQ(value(decoded.a), tensor::kE2m1Values[a]);
        EXPECT_EQ(value(decoded.b), tensor::kE2m1Values[b]);
      }
    }
  }
}

TEST(Mxfp4Page, ScaleBitsAreTheScales) {
  for (uint32_t scale = 1; scale < 255; ++scale) {
    for (uint32_t i = 0; i < 4; ++i) {
      const uint32_t word = ~(0xffu << 8 * i) | scale << 8 * i;
      EXPECT_EQ(std::bit_cast<float>(scale_bits(word, i)),
                tensor::e8m0_to_float(static_cast<uint8_t>(scale)));
    }
  }
}

TEST(PackMxfp4, CodePlacesAreAPermutation) {
  std::vector<int> seen(2 * kBlockCodeBytes, 0);
  for (uint32_t row = 0; row < kBlockRows; ++row) {
    for (uint32_t k = 0; k < kBlockColumns; ++k) {
      const CodePlace place = code_place(row, k);
      ++seen.at(2 * place.byte + (place.is_b ? 1 : 0));
    }
  }
  EXPECT_EQ(seen, std::vector<int>(2 * kBlockCodeBytes, 1));
}

TEST(PackMxfp4, GateUpComesBack) {
  const Bytes canonical = random_matrix(2 * 96, 1024, 1);
  Bytes pages(canonical.size()), back(canonical.size());
  ASSERT_TRUE(pack_gate_up(canonical, 96, 1024, pages));
  unpack_gate_up(pages, 96, 1024, back);
  EXPECT_EQ(back, canonical);
  EXPECT_NE(pages, canonical);
}

TEST(PackMxfp4, DownComesBack) {
  const Bytes canonical = random_matrix(384, 512, 2);
  Bytes pages(canonical.size()), back(canonical.size());
  ASSERT_TRUE(pack_down(canonical, 384, 512, pages));
  unpack_down(pages, 384, 512, back);
  EXPECT_EQ(back, canonical);
}

struct Size {
  uint32_t rows, columns;
};

float value_of(const Bytes& matrix, const Size& size, uint32_t row, uint32_t k) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(matrix.data());
  const uint8_t code = tensor::mxfp4_code(bytes + row * size.columns / 2, k);
  const uint64_t scales = code_bytes(kFormat, size.rows, size.columns);
  return tensor::kE2m1Values[code] *
         tensor::e8m0_to_float(bytes[scales + (row * size.columns + k) / 32]);
}

// The values of `matrix` stand where place(k) says in `filled`, and all others are zeros.
template <class Place>
void expect_filled_up(const Bytes& matrix, const Size& size, const Bytes& filled,
                      const Size& filled_size, const Place& place) {
  ASSERT_EQ(filled.size(), packed_bytes(kFormat, filled_size.rows, filled_size.columns));
  std::vector<float> expected(filled_size.columns);
  for (uint32_t row = 0; row < filled_size.rows; ++row) {
    std::fill(expected.begin(), expected.end(), 0.0F);
    for (uint32_t k = 0; k < size.columns && row < size.rows; ++k) {
      expected[place(k)] = value_of(matrix, size, row, k);
    }
    for (uint32_t k = 0; k < filled_size.columns; ++k) {
      ASSERT_EQ(value_of(filled, filled_size, row, k), expected[k]) << row << ", " << k;
    }
  }
}

TEST(PackMxfp4, FilledUpChunksHaveTheirValuesAndZeros) {
  constexpr uint32_t kRows = 3;
  for (const auto& [columns, chunk] :
       {std::pair(128u, 16u), std::pair(64u, 64u), std::pair(192u, 96u), std::pair(256u, 256u),
        std::pair(288u, 288u), std::pair(2112u, 264u)}) {
    const Bytes canonical = random_matrix(kRows, columns, columns);
    expect_filled_up(canonical, {kRows, columns}, fill_up_down(canonical, kRows, columns, chunk),
                     {128, padded_down_columns(columns, chunk)},
                     [chunk = chunk](uint32_t k) { return down_column(k, chunk); });
  }
}

TEST(PackMxfp4, FilledUpInputsHaveTheirValuesAndZeros) {
  for (const auto& [hidden, filled] : {std::pair(64u, 512u), std::pair(1536u, 1536u),
                                       std::pair(2880u, 3072u), std::pair(3584u, 4096u)}) {
    ASSERT_EQ(gate_up_columns(hidden), filled);
    const Bytes canonical = random_matrix(4, hidden, hidden);
    expect_filled_up(canonical, {4, hidden}, fill_up_gate_up(canonical, 2, hidden), {4, filled},
                     [](uint32_t k) { return k; });
  }
}

// Every page is a chunk's; chunks have as many each, or about.
TEST(PackMxfp4, ChunksShareAllPages) {
  for (const auto& [chunks, pages] :
       {std::pair(8u, 8u), std::pair(8u, 12u), std::pair(1u, 2u), std::pair(8u, 9u),
        std::pair(4u, 15u), std::pair(8u, 3u), std::pair(8u, 1u), std::pair(4u, 2u)}) {
    uint32_t next = 0;
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
      const DownChunk of(chunk, chunks, pages);
      EXPECT_EQ(of.first_page, next);
      EXPECT_TRUE(of.num_pages == pages / chunks || of.num_pages == pages / chunks + 1);
      next += of.num_pages;
    }
    EXPECT_EQ(next, pages);
  }
}

// One code and one scale, found where mxfp4_page.h says that they are.
TEST(PackMxfp4, PlacesAreThoseOfTheDescription) {
  const uint32_t intermediate = 64, hidden = 1024;
  Bytes canonical(packed_bytes(kFormat, 2 * intermediate, hidden), std::byte{0});
  const uint64_t codes = code_bytes(kFormat, 2 * intermediate, hidden);
  std::fill(canonical.begin() + static_cast<int64_t>(codes), canonical.end(), std::byte{100});
  // The up row of neuron 32 + 8 * 2 + 5, column 512 + 32 * 11 + 27: tile 1, page 1, warp 2, g = 5,
  // slab 1, block 3; k = 27 = 16 + 4 * 2 + 3 is a b code of lane 4 * 5 + 2, byte 3, second word.
  const uint32_t row = intermediate + 53, column = 512 + 352 + 27;
  canonical[(uint64_t{row} * hidden + column) / 2] = std::byte{0xb0};  // odd column: code 11
  canonical[codes + uint64_t{row} * hidden / 32 + column / 32] = std::byte{77};
  Bytes pages(canonical.size());
  ASSERT_TRUE(pack_gate_up(canonical, intermediate, hidden, pages));
  const std::byte* page = pages.data() + (1 * 2 + 1) * GateUpPage::kBytes;
  const uint32_t byte = GateUpPage::codes(1, 3, 2, 4 * 5 + 2) + 4 + 3;
  EXPECT_EQ(page[byte], (std::byte{code_byte(0, 11)}));
  EXPECT_EQ(page[GateUpPage::scales(1, 2, 5) + 3 * 2 + 1], std::byte{77});
}

TEST(PackMxfp4, RefusesScalesThatPagesCannotHold) {
  Bytes canonical = random_matrix(256, 256, 3);
  Bytes pages(canonical.size());
  const uint64_t codes = code_bytes(kFormat, 256, 256);
  const uint64_t at = codes + 5 * 8 + 3;  // row 5, columns from 96
  canonical[at] = std::byte{255};
  const Status nan = pack_down(canonical, 256, 256, pages);
  ASSERT_FALSE(nan);
  EXPECT_EQ(
      nan.error().message,
      "row 5, columns from 96: the GPU layout has no MXFP4 scale 255 (NaN); expected 1 to 254");
  canonical[at] = std::byte{0};
  const Status zero = pack_down(canonical, 256, 256, pages);
  ASSERT_FALSE(zero);
  EXPECT_EQ(
      zero.error().message,
      "row 5, columns from 96: the GPU layout has no MXFP4 scale 0 (2^-127); expected 1 to 254");
}

TEST(PackMxfp4, ZerosOfScaleZeroAreZeros) {
  Bytes canonical = random_matrix(256, 256, 4);
  const uint64_t codes = code_bytes(kFormat, 256, 256);
  for (uint64_t i = 0; i < 16; ++i) canonical[i] = std::byte{0x08};  // -0 and 0
  canonical[codes] = std::byte{0};
  Bytes pages(canonical.size()), back(canonical.size());
  ASSERT_TRUE(pack_down(canonical, 256, 256, pages));
  unpack_down(pages, 256, 256, back);
  canonical[codes] = std::byte{1};
  EXPECT_EQ(back, canonical);
}

}  // namespace
}  // namespace ultraspeed::cuda
