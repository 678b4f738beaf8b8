// The sums of dense products against the same arithmetic in binary64, their order, and operands.
#include "cuda/ops/dense.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/dense_data.h"

namespace ultraspeed::cuda {
namespace {

using tensor::WeightFormat;
using test::BoundedSum;
using test::check;
using test::dense_sum;
using test::DenseCase;
using test::DenseOperandBytes;
using test::DenseWeights;
using test::Device;
using test::Errors;
using test::is_poison;
using test::kBf16;
using test::kFp8;
using test::operand_bytes;
using test::random_rows;
using Dense = test::DenseTest;

// The definition of dense_operand.h.
void expect_operand(const DenseOperandBytes& operand, uint32_t column, const float* row,
                    uint32_t k) {
  for (uint32_t block = 0; block < k; block += 128) {
    const uint32_t end = std::min(block + 128, k);
    if (operand.format == kBf16) {
      for (uint32_t i = block; i < end; ++i) {
        const float hi = tensor::bf16_to_float(tensor::bf16_from_float(row[i]));
        const float lo = tensor::bf16_to_float(tensor::bf16_from_float(row[i] - hi));
        ASSERT_EQ(operand.code(0, column, i), hi);
        ASSERT_EQ(operand.code(1, column, i), lo);
      }
      continue;
    }
    const float largest = std::fabs(*std::max_element(
        row + block, row + end, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
    const int exponent = test::f16_exponent(largest);
    ASSERT_EQ(operand.scale(column, block), std::ldexp(1.0F, exponent));
    for (uint32_t i = block; i < end; ++i) {
      ASSERT_EQ(operand.code(0, column, i), test::f16_code(row[i], exponent));
    }
  }
}

TEST_F(Dense, AgreesWithBinary64) {
  for (const DenseCase& c :
       {DenseCase{kFp8, 8, 8, 192, 6144}, DenseCase{kFp8, 8, 1, 66, 1024},
        DenseCase{kFp8, 16, 13, 130, 2048}, DenseCase{kFp8, 32, 32, 192, 6144},
        DenseCase{kFp8, 64, 50, 128, 6144}, DenseCase{kBf16, 8, 8, 192, 6144},
        DenseCase{kBf16, 8, 3, 66, 512}, DenseCase{kBf16, 16, 13, 130, 2048},
        DenseCase{kBf16, 32, 29, 64, 6144}, DenseCase{kBf16, 64, 50, 128, 6144},
        // pages that are filled up; quarters of other lengths, and none
        DenseCase{kFp8, 8, 8, 130, 2880}, DenseCase{kFp8, 16, 9, 66, 512},
        DenseCase{kFp8, 64, 50, 66, 64}, DenseCase{kBf16, 8, 8, 130, 2880},
        DenseCase{kBf16, 8, 2, 320, 1280}, DenseCase{kBf16, 32, 29, 66, 200}}) {
    std::mt19937 random(c.width + c.rows + c.k);
    const DenseWeights weights = DenseWeights::random(c.format, c.rows, c.k, random);
    const std::vector<float> rows = random_rows(c.num_columns, c.k, random);
    const Output out = run(c, weights, rows);
    Errors errors;
    for (uint32_t column = 0; column < c.num_columns; ++column) {
      expect_operand(out.operand, column, &rows[uint64_t{column} * c.k], c.k);
      for (uint32_t row = column % 5; row < c.rows; row += 5) {
        const BoundedSum sum = dense_sum(weights, out.operand, row, column);
        errors.add(out.values[uint64_t{column} * c.rows + row], sum.value, sum.bound);
      }
    }
    std::printf("%s, width %u, %u columns, [%u, %u]:\n", c.format == kFp8 ? "FP8" : "BF16", c.width,
                c.num_columns, c.rows, c.k);
    errors.report("sums");
  }
}

// One weight that is not zero a row; one element that is not small a block.
TEST_F(Dense, AllCodesAreExact) {
  const DenseCase c{kFp8, 8, 8, 256, 1024};
  DenseWeights weights(c.format, c.rows, c.k);
  const auto place_of = [&](uint32_t row) { return row * 37 % c.k; };
  for (uint32_t row = 0; row < c.rows; ++row) {
    for (uint32_t k = 0; k < c.k; k += 128) weights.set_scale(row, k, 0.75F);
    weights.set_code(row, place_of(row), static_cast<uint16_t>(row));
  }
  std::vector<float> rows(uint64_t{c.num_columns} * c.k);
  for (uint32_t column = 0; column < c.num_columns; ++column) {
    for (uint32_t k = 0; k < c.k; ++k) {  // down to subnormal f16 codes
      rows[uint64_t{column} * c.k + k] =
          k % 128 == 1
              ? 1.0F
              : std::ldexp(1.0F + static_cast<float>(k % 4) / 4, -5 * static_cast<int>(column));
    }
  }
  const Output out = run(c, weights, rows);
  for (uint32_t column = 0; column < c.num_columns; ++column) {
    for (uint32_t row = 0; row < c.rows; ++row) {
      const float got = out.values[uint64_t{column} * c.rows + row];
      const float code = tensor::e4m3_to_float(static_cast<uint8_t>(row));
      if (std::isnan(code)) {
        ASSERT_TRUE(std::isnan(got) && !is_poison(got)) << row;
        continue;
      }
      ASSERT_EQ(got, code * 0.75F * rows[uint64_t{column} * c.k + place_of(row)])
          << "code " << row << ", column " << column;
    }
  }
}

// The same column in other company, at another width, on other clusters, has the same bits.
class DenseOfK : public Dense, public testing::WithParamInterface<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(K, DenseOfK, testing::Values(6144, 1280, 512));
TEST_P(DenseOfK, BitsDoNotDependOnTheCompany) {
  for (const WeightFormat format : {kFp8, kBf16}) {
    const uint32_t rows = 320, k = GetParam();
    std::mt19937 random(3);
    const DenseWeights weights = DenseWeights::random(format, rows, k, random);
    const std::vector<float> inputs = random_rows(64, k, random);
    const Output all = run({format, 64, 64, rows, k}, weights, inputs);
    for (const uint32_t width : {8u, 16u, 32u}) {
      for (const uint32_t clusters : {0u, 1u, 3u}) {
        const uint32_t num_columns = width - width / 4;
        std::vector<float> some;
        std::vector<uint32_t> chosen;
        for (uint32_t i = 0; i < num_columns; ++i) {
          chosen.push_back(static_cast<uint32_t>(random() % 64));
          some.insert(some.end(), inputs.begin() + chosen[i] * k,
                      inputs.begin() + (chosen[i] + 1) * k);
        }
        const Output out = run({format, width, num_columns, rows, k}, weights, some, clusters);
        for (uint32_t i = 0; i < num_columns; ++i) {
          ASSERT_EQ(std::memcmp(&out.values[uint64_t{i} * rows],
                                &all.values[uint64_t{chosen[i]} * rows], rows * 4),
                    0)
              << "width " << width << ", " << clusters << " clusters, column " << i;
        }
      }
    }
  }
}

// Launches that start while others end, each with more pages a CTA than its ring has stages: a race
// in the kernel's start once took hundreds of them to show.
TEST_F(Dense, ManyLaunchesAgree) {
  for (const WeightFormat format : {kFp8, kBf16}) {
    const uint32_t rows = 6144, k = 2048;
    std::mt19937 random(11);
    const DenseWeights weights = DenseWeights::random(format, rows, k, random);
    Device<std::byte> pages(pack(weights, neighbour_order(rows)));
    for (const uint32_t width : {8u, 16u, 32u, 64u}) {
      const DenseCase c{format, width, width, rows, k};
      const Output want = run(c, weights, random_rows(width, k, random));
      Device<uint8_t> operand(want.operand.bytes);
      Device<float> output(want.values.size());
      const DenseLaunch launch = launch_of(c, pages.data(), operand.data());
      for (uint32_t i = 0; i < 5000; ++i) {
        check(launch_dense(launch, DenseStore{output.data(), rows, 0}, nullptr));
      }
      ASSERT_EQ(std::memcmp(output.read().data(), want.values.data(), want.values.size() * 4), 0)
          << "width " << width;
    }
  }
}

// Columns 64 and up of a step, as a group of their own; a group that the step does not have.
TEST_F(Dense, GroupsReadAndWriteTheirColumns) {
  for (const WeightFormat format : {kFp8, kBf16}) {
    const uint32_t rows = 128, k = 1024, num_columns = 77;
    std::mt19937 random(12);
    const DenseWeights weights = DenseWeights::random(format, rows, k, random);
    const std::vector<float> inputs = random_rows(num_columns, k, random);
    const std::vector<float> some(inputs.begin() + 64 * k, inputs.end());
    const Output want = run({format, 16, num_columns - 64, rows, k}, weights, some);
    Device<float> device_rows(inputs), output(uint64_t{num_columns} * rows);
    Device<uint8_t> operand(operand_bytes(format, 16, k));
    Device<std::byte> pages(pack(weights, neighbour_order(rows)));
    Device<uint32_t> count(std::vector<uint32_t>{num_columns});
    DensePrepare data;
    data.format = format;
    data.k = k;
    data.rows = device_rows.data();
    data.operand = reinterpret_cast<std::byte*>(operand.data());
    DenseLaunch launch = launch_of({format, 16, 16, rows, k}, pages.data(), operand.data());
    for (const uint32_t first : {80u, 64u}) {
      ColumnGroup group;
      group.columns = 16;
      group.first_column = first;
      group.num_columns = count.data();
      static_cast<ColumnGroup&>(data) = group;
      static_cast<ColumnGroup&>(launch) = group;
      check(launch_dense_prepare(data, nullptr));
      check(launch_dense(launch, DenseStore{output.data(), rows, 0}, nullptr));
      const std::vector<float> out = output.read();
      for (uint32_t i = 0; i < num_columns * rows; ++i) {
        if (first == 80 || i < 64 * rows) {
          ASSERT_TRUE(is_poison(out[i])) << i;
        } else {
          ASSERT_EQ(out[i], want.values[i - 64 * rows]);
        }
      }
    }
  }
}

TEST_F(Dense, InfinitiesSpoilTheirColumnAlone) {
  for (const WeightFormat format : {kFp8, kBf16}) {
    const DenseCase c{format, 8, 6, 64, 1024};
    std::mt19937 random(4);
    const DenseWeights weights = DenseWeights::random(format, c.rows, c.k, random);
    std::vector<float> rows = random_rows(c.num_columns, c.k, random);
    const Output fine = run(c, weights, rows);
    rows[2 * c.k + 700] = INFINITY;
    rows[4 * c.k + 1] = NAN;
    const Output out = run(c, weights, rows);
    for (uint32_t i = 0; i < c.num_columns * c.rows; ++i) {
      const uint32_t column = i / c.rows;
      ASSERT_FALSE(is_poison(out.values[i]));
      if (column == 2 || column == 4) {
        ASSERT_TRUE(std::isnan(out.values[i])) << i;
      } else {
        ASSERT_EQ(out.values[i], fine.values[i]);
      }
    }
  }
}

// The norm has the bits of the definition: 16 lanes of fused products, then a tree.
TEST_F(Dense, PrepareNormalises) {
  for (const WeightFormat format : {kFp8, kBf16}) {
    const uint32_t k = 6144, num_columns = 5;
    std::mt19937 random(9);
    std::normal_distribution<float> normal;
    const std::vector<float> rows = random_rows(num_columns, k, random);
    std::vector<float> weight(k);
    for (float& value : weight) value = normal(random);
    Device<float> device_rows(rows), device_weight(weight);
    Device<uint8_t> operand(operand_bytes(format, 8, k));
    DensePrepare data;
    data.format = format;
    data.num_columns = on_device(num_columns);
    data.k = k;
    data.rows = device_rows.data();
    data.norm_weight = device_weight.data();
    data.epsilon = 1e-5F;
    data.operand = reinterpret_cast<std::byte*>(operand.data());
    check(launch_dense_prepare(data, nullptr));
    const DenseOperandBytes made{format, 8, operand.read()};
    for (uint32_t column = 0; column < num_columns; ++column) {
      const float* row = &rows[uint64_t{column} * k];
      float lanes[16] = {};
      for (uint32_t i = 0; i < k; ++i) lanes[i % 16] = std::fma(row[i], row[i], lanes[i % 16]);
      for (uint32_t width = 8; width > 0; width /= 2) {
        for (uint32_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
      }
      const float factor = 1.0F / std::sqrt(lanes[0] / static_cast<float>(k) + 1e-5F);
      std::vector<float> normed(k);
      for (uint32_t i = 0; i < k; ++i) normed[i] = weight[i] * (row[i] * factor);
      expect_operand(made, column, normed.data(), k);
    }
    for (uint32_t column = num_columns; column < 8; ++column) {
      for (uint32_t i = 0; i < k; ++i) {
        ASSERT_EQ(made.code(0, column, i), 0);
        if (format == kFp8) {
          ASSERT_EQ(made.scale(column, i), 0);
        } else {
          ASSERT_EQ(made.code(1, column, i), 0);
        }
      }
    }
  }
}

TEST_F(Dense, RefusesWhatItHasNoKernelsFor) {
  const DenseCase c{kFp8, 8, 8, 64, 1024};
  DenseLaunch launch = launch_of(c, nullptr, nullptr);
  Device<float> output(64 * 8);
  const DenseStore store{output.data(), 64, 0};
  const auto refused = [&](const auto& change) {
    DenseLaunch changed = launch;
    change(changed);
    return launch_dense(changed, store, nullptr) == cudaErrorInvalidValue;
  };
  EXPECT_TRUE(refused([](DenseLaunch& l) { l.columns = 12; }));
  EXPECT_TRUE(refused([](DenseLaunch& l) { l.k = 1278; }));
  EXPECT_TRUE(refused([](DenseLaunch& l) { l.rows = 63; }));
  EXPECT_TRUE(refused([](DenseLaunch& l) { l.num_chunks = 3; }));
  EXPECT_TRUE(refused([](DenseLaunch& l) { l.format = WeightFormat::kF32; }));
  EXPECT_TRUE(refused([](DenseLaunch& l) { l.clusters = 0; }));
  EXPECT_EQ(launch_dense(launch, DensePartials{output.data(), 8}, nullptr), cudaErrorInvalidValue);
  for (const float value : output.read()) ASSERT_TRUE(is_poison(value));
}

}  // namespace
}  // namespace ultraspeed::cuda
