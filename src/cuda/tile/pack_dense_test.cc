#include "cuda/tile/pack_dense.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "cuda/tile/dense_operand.h"
#include "cuda/tile/dense_page.h"

namespace ultraspeed::cuda {
namespace {

using tensor::WeightFormat;
using Bytes = std::vector<std::byte>;

Bytes random_bytes(const DenseMatrix& matrix, uint32_t seed) {
  Bytes bytes(packed_bytes(matrix.format, matrix.rows, matrix.columns));
  std::mt19937 random(seed);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() % 256);
  return bytes;
}

void expect_permutation(const RowOrder& order, uint32_t rows) {
  EXPECT_EQ(order.size(), rows);
  const std::set<uint32_t> seen(order.begin(), order.end());
  EXPECT_EQ(seen.size(), rows);
  EXPECT_EQ(*seen.rbegin(), rows - 1);
}

TEST(PackDense, PlacesOfAPageAreAPermutation) {
  std::vector<int> fp8(Fp8Page::kBytes, 0), bf16(Bf16Page::kBytes, 0);
  for (uint32_t row = 0; row < kDenseTileRows; ++row) {
    for (uint32_t k = 0; k < Fp8Page::kColumns; ++k) ++fp8.at(Fp8Page::element(row, k));
    for (uint32_t i = 0; i < 8; ++i) ++fp8.at(Fp8Page::scale(row, i / 4) + i % 4);
    for (uint32_t k = 0; k < Bf16Page::kColumns; ++k) {
      ++bf16.at(Bf16Page::element(row, k));
      ++bf16.at(Bf16Page::element(row, k) + 1);
    }
  }
  EXPECT_EQ(fp8, std::vector<int>(Fp8Page::kBytes, 1));
  EXPECT_EQ(bf16, std::vector<int>(Bf16Page::kBytes, 1));
}

TEST(PackDense, PlacesOfAnOperandAreAPermutation) {
  const auto count = [](auto operand) {
    using Operand = decltype(operand);
    for (const uint32_t columns : {8u, 16u, 32u, 64u}) {
      std::vector<int> seen(Operand::scales(columns), 0);
      for (uint32_t term = 0; term < Operand::kTerms; ++term) {
        for (uint32_t column = 0; column < columns; ++column) {
          for (uint32_t k = 0; k < Operand::kSteps * kDenseStepColumns; ++k) {
            ++seen.at(Operand::code(columns, term, column, k));
            ++seen.at(Operand::code(columns, term, column, k) + 1);
          }
        }
      }
      EXPECT_EQ(seen, std::vector<int>(Operand::scales(columns), 1));
    }
  };
  count(DenseOperand<Fp8Page>());
  count(ExpertOperand());
  count(DenseOperand<Bf16Page>());
}

TEST(PackDense, ScalesOfAnOperandAreAPermutation) {
  for (const uint32_t columns : {8u, 16u, 32u, 64u}) {
    std::vector<int> seen(ExpertOperand::piece_bytes(columns) - ExpertOperand::scales(columns), 0);
    for (uint32_t column = 0; column < columns; ++column) {
      for (uint32_t k = 0; k < Fp8Page::kColumns; k += 32) {
        const uint32_t at = ExpertOperand::scale(columns, column, k + column % 32);
        for (uint32_t i = 0; i < 4; ++i) ++seen.at(at + i - ExpertOperand::scales(columns));
      }
    }
    EXPECT_EQ(seen, std::vector<int>(seen.size(), 1));
  }
}

// Each chunk's columns, and the scale of each, then zeros.
TEST(PackDense, ChunksAreFilledUp) {
  // Of 192 and 360 every second one, and all but the first, begin within a page.
  // The offsets of 200 take a page.
  for (const uint32_t chunk : {16u, 64u, 128u, 256u, 384u, 192u, 360u, 200u}) {
    const bool shifts = chunk == 192 || chunk == 360 || chunk == 200;
    const DenseMatrix matrix{WeightFormat::kFp8Block128, 2, 3 * chunk, 3};
    ASSERT_TRUE(check_dense(matrix));
    const Bytes canonical = random_bytes(matrix, chunk);
    Bytes pages(dense_page_bytes(matrix), std::byte{0xff});
    pack_dense(matrix, neighbour_order(2), canonical, pages);
    const uint32_t chunk_pages = chunk == 200 ? 2 : (chunk + 255) / 256;
    ASSERT_EQ(pages.size(), 3 * chunk_pages * Fp8Page::kBytes);
    for (uint32_t row = 0; row < 2; ++row) {
      for (uint32_t at = 0; at < 3 * chunk_pages * 256; ++at) {
        const std::byte* page = &pages[at / 256 * Fp8Page::kBytes];
        const uint32_t tile_row = dense_tile_row(0, row), number = at / (chunk_pages * 256);
        const uint32_t offset = shifts ? number * chunk % 128 : 0;
        const uint32_t in_chunk = at % (chunk_pages * 256) - offset;
        const uint32_t k = number * chunk + in_chunk;
        const bool is_filled = in_chunk >= chunk;
        ASSERT_EQ(page[Fp8Page::element(tile_row, at % 256)],
                  is_filled ? std::byte{0} : canonical[row * matrix.columns + k]);
        const Bytes scale(page + Fp8Page::scale(tile_row, at % 256 / 128),
                          page + Fp8Page::scale(tile_row, at % 256 / 128) + 4);
        const uint64_t columns = tensor::scale_columns(matrix.format, matrix.columns);
        const std::byte* from = &canonical[2 * matrix.columns + (row * columns + k / 128) * 4];
        if (!is_filled) {
          ASSERT_EQ(scale, Bytes(from, from + 4));
        } else if (!shifts && in_chunk / 128 * 128 >= chunk) {
          ASSERT_EQ(scale, Bytes(4));
        }
      }
    }
    Bytes back(canonical.size());
    unpack_dense(matrix, neighbour_order(2), pages, back);
    EXPECT_EQ(back, canonical);
  }
}

TEST(PackDense, OrdersArePermutations) {
  expect_permutation(neighbour_order(130), 130);
  expect_permutation(gate_up_order(96), 192);
  EXPECT_EQ(gate_up_order(96)[2 * 5 + 1], 96u + 5);
  const QkvShape shape{4, 2, 96, 64, 32};
  const RowOrder qkv = qkv_order(shape);
  expect_permutation(qkv, shape.rows());
  // Head 3: rotated pair 5, the second pair behind the rotated ones; then a v pair.
  EXPECT_EQ(qkv[3 * 96 + 2 * 5], 3u * 96 + 5);
  EXPECT_EQ(qkv[3 * 96 + 2 * 5 + 1], 3u * 96 + 5 + 16);
  EXPECT_EQ(qkv[3 * 96 + 2 * 17], 3u * 96 + 34);
  EXPECT_EQ(qkv[3 * 96 + 2 * 17 + 1], 3u * 96 + 35);
  EXPECT_EQ(qkv[6 * 96 + 66], 6u * 96 + 66);
}

TEST(PackDense, MatricesComeBack) {
  for (const WeightFormat format : {WeightFormat::kFp8Block128, WeightFormat::kBf16}) {
    for (const uint32_t rows : {128u, 66u}) {
      const DenseMatrix matrix{format, rows, 1096};
      ASSERT_TRUE(check_dense(matrix));
      const Bytes canonical = random_bytes(matrix, rows);
      RowOrder order = neighbour_order(rows);
      std::shuffle(order.begin(), order.end(), std::mt19937(rows));
      Bytes pages(dense_page_bytes(matrix), std::byte{0xff}), back(canonical.size());
      pack_dense(matrix, order, canonical, pages);
      unpack_dense(matrix, order, pages, back);
      EXPECT_EQ(back, canonical);
      EXPECT_GE(pages.size(), canonical.size());
    }
  }
}

// One element and one scale, found where dense_page.h says that they are.
TEST(PackDense, PlacesAreThoseOfTheDescription) {
  const DenseMatrix fp8{WeightFormat::kFp8Block128, 192, 1024};
  Bytes canonical(packed_bytes(fp8.format, fp8.rows, fp8.columns), std::byte{0});
  // Packed pair 32 + 8 * 2 + 5, second half: tile 1, warp 2, row 16 * 2 + 5 + 8. Column 512 + 128 +
  // 16 * 5 + 11: page 2, slab 1, step 5, k 11 = 8 + 2 * 1 + 1: lane 4 * 5 + 1, byte 8 + 4 + 2 + 1.
  const RowOrder order = gate_up_order(96);
  const uint32_t row = 96 + 53, column = 731;
  canonical[uint64_t{row} * 1024 + column] = std::byte{77};
  const float scale = 0.375F;
  std::memcpy(&canonical[192 * 1024 + (row * 8 + column / 128) * 4], &scale, 4);
  Bytes pages(dense_page_bytes(fp8));
  pack_dense(fp8, order, canonical, pages);
  const std::byte* page = pages.data() + (1 * 4 + 2) * Fp8Page::kBytes;
  EXPECT_EQ(page[Fp8Page::codes(1, 2, 2, 4 * 5 + 1) + 15], std::byte{77});
  EXPECT_EQ(std::memcmp(page + Fp8Page::scales(1, 2, 5) + 4, &scale, 4), 0);
  EXPECT_EQ(std::count(pages.begin(), pages.end(), std::byte{0}),
            static_cast<int64_t>(pages.size()) - 3);  // 77, and two bytes of the scale

  // The same pair as BF16: column 128 * 5 + 64 + 16 * 3 + 6: page 5, slab 1, step 3, k 6: t = 3,
  // a[1].
  const DenseMatrix bf16{WeightFormat::kBf16, 192, 1024};
  Bytes wide(packed_bytes(bf16.format, bf16.rows, bf16.columns), std::byte{0});
  const uint32_t at = 640 + 64 + 48 + 6;
  wide[(uint64_t{row} * 1024 + at) * 2] = std::byte{9};
  Bytes wide_pages(dense_page_bytes(bf16));
  pack_dense(bf16, order, wide, wide_pages);
  page = wide_pages.data() + (1 * 8 + 5) * Bf16Page::kBytes;
  EXPECT_EQ(page[Bf16Page::codes(1, 3, 2, 4 * 5 + 3) + 4], std::byte{9});
}

TEST(PackDense, RowsThatFillUpATileAreZeros) {
  const DenseMatrix matrix{WeightFormat::kBf16, 66, 512};
  const Bytes canonical(packed_bytes(matrix.format, matrix.rows, matrix.columns), std::byte{1});
  Bytes pages(dense_page_bytes(matrix), std::byte{0xff});
  pack_dense(matrix, neighbour_order(66), canonical, pages);
  EXPECT_EQ(pages.size(), 2u * 64 * 512 * 2);
  EXPECT_EQ(std::count(pages.begin(), pages.end(), std::byte{1}), 66 * 512 * 2);
  EXPECT_EQ(std::count(pages.begin(), pages.end(), std::byte{0}), 62 * 512 * 2);
}

TEST(PackDense, RefusesWhatThereAreNoKernelsFor) {
  const auto message = [](const DenseMatrix& matrix) {
    const Status status = check_dense(matrix);
    return status ? std::string() : status.error().message;
  };
  EXPECT_EQ(message({WeightFormat::kFp8Block128, 64, 2048, 2}), "");
  EXPECT_EQ(message({WeightFormat::kFp8Block128, 64, 2880, 1}), "");
  EXPECT_EQ(message({WeightFormat::kBf16, 2, 360, 3}), "");
  EXPECT_EQ(message({WeightFormat::kF32, 64, 1024, 1}),
            "the GPU's dense products have no F32 weights; expected FP8 or BF16");
  EXPECT_EQ(message({WeightFormat::kFp8Block128, 64, 2880, 16}),  // of 180 columns
            "");
  EXPECT_EQ(message({WeightFormat::kFp8Block128, 64, 2880, 32}),  // of 90
            "the GPU's dense products have no FP8 (e4m3, 128 columns a scale) matrix [64, 2880] in "
            "32 K-chunks; expected an even number of rows and chunks of a multiple of 4 columns");
  EXPECT_NE(message({WeightFormat::kBf16, 64, 1024, 3}), "");
  EXPECT_NE(message({WeightFormat::kBf16, 64, 1024, 0}), "");
  EXPECT_NE(message({WeightFormat::kBf16, 64, 1022, 1}), "");
  EXPECT_NE(message({WeightFormat::kBf16, 63, 1024, 1}), "");
  EXPECT_NE(message({WeightFormat::kBf16, 0, 1024, 1}), "");
  EXPECT_NE(message({WeightFormat::kBf16, 64, 0, 1}), "");
}

}  // namespace
}  // namespace ultraspeed::cuda
