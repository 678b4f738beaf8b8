// Codes against products in f64, for every format of tables.
#include "model/selector_codes.h"

#include <gtest/gtest.h>

#include <cstring>

#include "support/dequantize.h"
#include "support/random_tensors.h"
#include "tensor/bf16.h"
#include "tensor/e4m3.h"

namespace ultraspeed::model {
namespace {

using tensor::WeightFormat;

constexpr uint32_t kTableRows = 5, kTableColumns = 160, kCodesRank = 3;

std::vector<std::byte> random_matrix(WeightFormat format, uint32_t rows, uint64_t seed) {
  test::RandomTensors random(seed);
  std::vector<test::StoredTensor> stored;
  const std::vector<float> values =
      random.vector("x", rows * kTableColumns, WeightFormat::kF32, 0, 1, stored).values;
  std::vector<std::byte> bytes(tensor::packed_bytes(format, rows, kTableColumns));
  std::byte* scales = bytes.data() + tensor::code_bytes(format, rows, kTableColumns);
  for (uint32_t i = 0; i < rows * kTableColumns; ++i) {
    if (format == WeightFormat::kF32) std::memcpy(&bytes[i * 4], &values[i], 4);
    const uint16_t half = tensor::bf16_from_float(values[i]);
    if (format == WeightFormat::kBf16) std::memcpy(&bytes[i * 2], &half, 2);
    if (format == WeightFormat::kFp8Block128) {
      bytes[i] = static_cast<std::byte>(tensor::e4m3_from_float(values[i]));
    }
  }
  for (uint32_t i = 0; format == WeightFormat::kFp8Block128 && i < rows * 2; ++i) {
    const float scale = 0.25F * static_cast<float>(i + 1);
    std::memcpy(scales + i * 4, &scale, 4);
  }
  return bytes;
}

TEST(SelectorCodes, AreTheTablesRowsTimesTheMatrix) {
  for (const WeightFormat format :
       {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kFp8Block128}) {
    const auto table_bytes = random_matrix(format, kTableRows, 1);
    const auto matrix_bytes = random_matrix(WeightFormat::kBf16, kCodesRank, 2);
    const WeightShape table = {format, kTableRows, kTableColumns, table_bytes.size()};
    const WeightShape matrix = {WeightFormat::kBf16, kCodesRank, kTableColumns,
                                matrix_bytes.size()};
    std::vector<float> codes(kTableRows * kCodesRank);
    make_selector_codes({table, table_bytes}, {matrix, matrix_bytes},
                        std::as_writable_bytes(std::span(codes)));
    const auto e = test::dequantize(table, table_bytes), p = test::dequantize(matrix, matrix_bytes);
    for (uint32_t row = 0; row < kTableRows; ++row) {
      for (uint32_t r = 0; r < kCodesRank; ++r) {
        double sum = 0;
        for (uint32_t k = 0; k < kTableColumns; ++k) {
          sum += double{e[row * kTableColumns + k]} * p[r * kTableColumns + k];
        }
        EXPECT_NEAR(codes[row * kCodesRank + r], sum, 1e-4 * (1 + std::abs(sum)));
      }
    }
  }
}

}  // namespace
}  // namespace ultraspeed::model
