// Every instruction set that this processor has gives the bits of the plain loops.
#include "cpu/kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "cpu/kernels/added_products_test.h"
#include "cpu/math.h"
#include "cpu/vector_layout.h"
#include "hwy/targets.h"
#include "tensor/e4m3.h"

namespace ultraspeed::cpu {
namespace {

using tensor::WeightFormat;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Runs a test once for each vector target, then for the processor's own choice again.
template <class Function>
void for_each_target(Function function) {
  const int64_t all = hwy::SupportedTargets();
  for (int64_t left = all; left != 0; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(vector_target_name());
    function();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

std::vector<float> random_floats(size_t count, std::mt19937* random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(*random);
  return values;
}

// A packed matrix with every code, and scales over several powers of two.
std::vector<std::byte> random_packed(WeightFormat format, uint32_t rows, uint32_t cols,
                                     std::mt19937* random) {
  std::vector<std::byte> packed(tensor::packed_bytes(format, rows, cols));
  const uint64_t codes = tensor::code_bytes(format, rows, cols);
  for (uint64_t i = 0; i < codes; ++i) {
    auto code = static_cast<uint8_t>((*random)());
    if (format == WeightFormat::kFp8Block128 && (code & 0x7f) == 0x7f) code = 0x08;
    packed[i] = static_cast<std::byte>(code);
  }
  if (format == WeightFormat::kF32) {
    const auto values = random_floats(size_t{rows} * cols, random);
    std::memcpy(packed.data(), values.data(), packed.size());
  } else if (format == WeightFormat::kBf16) {  // exponents around 1
    for (uint64_t i = 1; i < codes; i += 2) {
      packed[i] = (packed[i] & std::byte{0x80}) | std::byte{0x3f};
    }
  } else if (format == WeightFormat::kFp8Block128) {
    const auto scales = random_floats((packed.size() - codes) / 4, random);
    std::memcpy(packed.data() + codes, scales.data(), packed.size() - codes);
  } else {
    for (uint64_t i = codes; i < packed.size(); ++i) {
      packed[i] = static_cast<std::byte>(120 + (*random)() % 12);
    }
  }
  return packed;
}

struct Shape {
  uint32_t rows, columns, chunks;
};

void expect_equal_products(WeightFormat format, const Shape& shape, uint32_t num_inputs) {
  std::mt19937 random(7 + num_inputs);
  auto packed = random_packed(format, shape.rows, shape.columns, &random);
  MatrixRows rows{
      {format, shape.rows, shape.columns, packed.data()}, 1, shape.rows - 2, shape.chunks};
  const auto inputs = random_floats(size_t{num_inputs} * shape.columns, &random);
  std::vector<const float*> x;
  for (uint32_t i = 0; i < num_inputs; ++i) x.push_back(&inputs[i * shape.columns]);
  const size_t stride = rows.num_rows + 3;
  const size_t size = num_inputs * shape.chunks * stride;
  std::vector<float> expected(size, -1), actual(size, -1);
  const auto output = [&](std::vector<float>* values) {
    return ProductOutput{values->data(), shape.chunks * stride, stride};
  };
  multiply_plain(rows, x.data(), num_inputs, output(&expected));

  ASSERT_TRUE(fits_vector_layout(format, shape.rows, shape.columns, packed));
  to_vector_layout(format, shape.rows, shape.columns, packed);
  rows.matrix.layout = WeightLayout::kVectors;
  multiply(rows, {x.data()}, num_inputs, output(&actual));
  ASSERT_EQ(std::memcmp(expected.data(), actual.data(), size * sizeof(float)), 0)
      << weight_format_name(format) << ", " << num_inputs << " inputs, " << shape.chunks
      << " chunks of " << shape.columns << " columns";
  std::ranges::fill(actual, -1.0F);
  multiply_plain(rows, x.data(), num_inputs, output(&actual));
  ASSERT_EQ(expected, actual);
  expect_added_products(
      expected, output(&expected), num_inputs, shape.chunks, rows.num_rows,
      [&](const ProductOutput& sums) { multiply(rows, {x.data()}, num_inputs, sums); });
}

TEST(Kernels, ProductsHaveTheBitsOfThePlainLoops) {
  const Shape shapes[] = {{16, 512, 1}, {48, 384, 2},  {16, 128, 8}, {16, 512, 8},
                          {32, 160, 1}, {16, 2880, 8}, {32, 1440, 4}};
  for_each_target([&] {
    for (const auto format : {WeightFormat::kF32, WeightFormat::kBf16, WeightFormat::kFp8Block128,
                              WeightFormat::kMxfp4}) {
      for (const Shape& shape : shapes) {
        for (const uint32_t num_inputs : {1u, 2u, 3u, 4u, 6u, 7u, 8u, 13u, 16u}) {
          expect_equal_products(format, shape, num_inputs);
        }
      }
    }
  });
}

TEST(Kernels, EveryFp8CodeWithEveryKindOfScale) {
  for_each_target([] {
    for (const float scale : {1.0F, 0x1p-126F, 1.0F / 3, 127.9F, -0.7F, 0x1.8p-130F, 0.0F}) {
      std::vector<std::byte> packed(tensor::packed_bytes(WeightFormat::kFp8Block128, 256, 16));
      for (uint32_t row = 0; row < 256; ++row) packed[row * 16] = static_cast<std::byte>(row);
      for (uint32_t row = 0; row < 256; ++row) {
        std::memcpy(&packed[256 * 16 + row * 4], &scale, sizeof(scale));
      }
      to_vector_layout(WeightFormat::kFp8Block128, 256, 16, packed);
      const Matrix matrix{WeightFormat::kFp8Block128, 256, 16, packed.data(),
                          WeightLayout::kVectors};
      std::vector<float> x(16, 1.0F), out(256);
      const float* inputs = x.data();
      multiply({matrix, 0, 256}, {&inputs}, 1, {out.data(), 256});
      for (uint32_t code = 0; code < 256; ++code) {
        if ((code & 0x7f) == 0x7f) continue;  // NaN: the loader refuses it
        const float expected = tensor::e4m3_to_float(static_cast<uint8_t>(code)) * scale;
        ASSERT_EQ(out[code], expected) << code << " " << scale;
      }
    }
  });
}

TEST(Kernels, EveryMxfp4CodeWithEveryScale) {
  for_each_target([] {
    for (uint32_t scale = 0; scale < 255; ++scale) {
      for (const uint32_t column : {6u, 7u}) {
        std::vector<std::byte> packed(tensor::packed_bytes(WeightFormat::kMxfp4, 16, 32));
        for (uint32_t row = 0; row < 16; ++row) {
          packed[row * 16 + 3] = static_cast<std::byte>(column == 6 ? row : row << 4);
          packed[256 + row] = static_cast<std::byte>(scale);
        }
        to_vector_layout(WeightFormat::kMxfp4, 16, 32, packed);
        const Matrix matrix{WeightFormat::kMxfp4, 16, 32, packed.data(), WeightLayout::kVectors};
        std::vector<float> x(32, 0.0F), out(16);
        x[column] = 1;
        const float* inputs = x.data();
        multiply({matrix, 0, 16}, {&inputs}, 1, {out.data(), 16});
        const float factor = tensor::e8m0_to_float(static_cast<uint8_t>(scale));
        for (uint32_t row = 0; row < 16; ++row) {
          ASSERT_EQ(out[row], tensor::kE2m1Values[row] * factor) << row << " " << scale;
        }
      }
    }
  });
}

TEST(Kernels, ShapesThatVectorsDoNotTakeAreComputedPlainly) {
  std::mt19937 random(3);
  auto packed = random_packed(WeightFormat::kFp8Block128, 16, 200, &random);
  const auto x = random_floats(200, &random);
  const float* inputs = x.data();
  std::vector<float> expected(16), actual(16);
  const Matrix as_stored{WeightFormat::kFp8Block128, 16, 200, packed.data()};
  multiply_plain({as_stored, 0, 16}, &inputs, 1, {expected.data(), 16});
  EXPECT_FALSE(fits_vector_layout(WeightFormat::kFp8Block128, 15, 200, packed));
  ASSERT_TRUE(fits_vector_layout(WeightFormat::kFp8Block128, 16, 200, packed));
  to_vector_layout(WeightFormat::kFp8Block128, 16, 200, packed);
  const Matrix in_panels{WeightFormat::kFp8Block128, 16, 200, packed.data(),
                         WeightLayout::kVectors};
  multiply({in_panels, 0, 16}, {&inputs}, 1, {actual.data(), 16});
  EXPECT_EQ(expected, actual);
  const float large = 128;
  std::memcpy(packed.data() + 3200, &large, sizeof(large));
  EXPECT_FALSE(fits_vector_layout(WeightFormat::kFp8Block128, 16, 200, packed));
  EXPECT_FALSE(fits_vector_layout(WeightFormat::kMxfp4, 16, 48, packed));
  EXPECT_FALSE(fits_vector_layout(WeightFormat::kMxfp4, 8, 64, packed));
}

TEST(Kernels, DotRowsAndWeightedRows) {
  std::mt19937 random(11);
  constexpr uint32_t kRows = 21;
  const auto values = random_floats(size_t{kRows} * 80, &random);
  const auto x = random_floats(size_t{9} * 90, &random);
  for_each_target([&] {
    for (const uint32_t count : {16u, 32u, 19u, 40u, 80u}) {
      const FloatRows rows{values.data(), 80, kRows, count};
      for (const uint32_t num : {1u, 2u, 3u, 4u, 7u, 9u}) {
        std::vector<float> products(num * size_t{24}), sums(x.begin(), x.begin() + num * 90);
        dot_rows(rows, x.data(), 90, num, products.data(), 24);
        add_weighted_rows(rows, x.data(), 22, num, sums.data(), 90);
        for (uint32_t i = 0; i < num; ++i) {
          for (uint32_t r = 0; r < kRows; ++r) {
            ASSERT_EQ(products[i * 24 + r], dot(rows.at(r), &x[i * 90], count));
          }
          for (uint32_t c = 0; c < count; ++c) {
            float expected = x[i * 90 + c];
            for (uint32_t r = 0; r < kRows; ++r) {
              expected = std::fma(x[i * 22 + r], rows.at(r)[c], expected);
            }
            ASSERT_EQ(sums[i * 90 + c], expected);
          }
          ASSERT_EQ(sums[i * 90 + count], x[i * 90 + count]);  // nothing beyond
        }
      }
    }
  });
}

TEST(Kernels, LargestSeesEveryPlaceAndNan) {
  for_each_target([] {
    for (const uint32_t count : {1u, 15u, 16u, 17u, 100u}) {
      for (uint32_t place = 0; place < count; ++place) {
        std::vector<float> x(count, -5.0F);
        x[place] = -1;
        ASSERT_EQ(largest(x.data(), count), -1.0F);
        x[place] = kNan;
        ASSERT_TRUE(std::isnan(largest(x.data(), count))) << count << " " << place;
      }
    }
  });
}

TEST(Kernels, ExponentialsAndTheirSum) {
  std::mt19937 random(5);
  for_each_target([&] {
    for (const uint32_t count : {1u, 16u, 23u, 512u}) {
      auto x = random_floats(count, &random);
      x[count / 2] = -std::numeric_limits<float>::infinity();
      std::vector<float> out(count);
      const float sum = exp_and_sum(x.data(), 2.5F, count, out.data());
      double expected_sum = 0;
      for (uint32_t i = 0; i < count; ++i) {
        const double expected = std::exp(static_cast<double>(x[i] - 2.5F));
        ASSERT_NEAR(out[i], expected, 2e-7 * expected);
        expected_sum += expected;
      }
      ASSERT_NEAR(sum, expected_sum, 1e-6 * expected_sum);
      ASSERT_EQ(exp_and_sum(x.data(), 2.5F, count, nullptr), sum);
    }
  });
}

TEST(Kernels, SiluAtBothEnds) {
  const std::vector<float> gate = {0, 1, -1, 30, -30, 200, -200, 1e30F, -1e30F, kNan};
  const std::vector<float> up(gate.size(), 2.0F);
  for_each_target([&] {
    std::vector<float> out(gate.size());
    silu_multiply(gate.data(), up.data(), 10, out.data());
    for (size_t i = 0; i < 9; ++i) {
      const double g = gate[i];
      const double expected = 2 * g / (1 + std::exp(-g));
      EXPECT_NEAR(out[i], expected, 4e-7 * std::abs(expected) + 1e-7) << g;
    }
    EXPECT_TRUE(std::isnan(out[9]));
  });
}

TEST(Kernels, ClampedSwigluAtBothEnds) {
  const std::vector<float> gate = {0, 1, -1, 7.5F, 30, -30, -200, 1e30F, -1e30F, kNan, 3};
  const std::vector<float> up = {2, -3, 6.9F, 7, 8, -9, 1e30F, -1e30F, 0.5F, 1, kNan};
  for_each_target([&] {
    std::vector<float> out(gate.size());
    clamped_swiglu(7.0F, 1.702F, gate.data(), up.data(), 11, out.data());
    for (size_t i = 0; i < 9; ++i) {
      const double g = std::min(static_cast<double>(gate[i]), 7.0);
      const double u = std::clamp(static_cast<double>(up[i]), -7.0, 7.0);
      const double expected = g / (1 + std::exp(-1.702 * g)) * (u + 1);
      EXPECT_NEAR(out[i], expected, 1e-6 * std::abs(expected) + 1e-7) << i;
    }
    EXPECT_TRUE(std::isnan(out[9]) && std::isnan(out[10]));
  });
}

}  // namespace
}  // namespace ultraspeed::cpu
