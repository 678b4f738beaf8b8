// Rounded inputs and cache rows against their definitions in binary64, which computes every step
// without error.
#include "cpu/rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "cpu/executor.h"

namespace ultraspeed::cpu {
namespace {

using tensor::WeightFormat;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNotANumber = std::numeric_limits<float>::quiet_NaN();

// A binary floating-point number of `digits` digits whose smallest unit is 2^least.
double nearest(double v, int digits, int least) {
  if (v == 0) return v;
  const int unit = std::max(std::ilogb(v) - digits + 1, least);
  return std::ldexp(std::nearbyint(std::ldexp(v, -unit)), unit);
}

double largest_of(std::span<const float> block) {
  double most = 0;
  for (const float v : block) most = std::max(most, std::abs(static_cast<double>(v)));
  return most;
}

int e4m3_exponent(double most) {
  int s = -126;
  while (most > std::ldexp(448.0, s)) ++s;
  return s;
}

// The value of a block's element, without the lower bound of the scale that block_scale.h has.
double f16_value(double v, double most) {
  if (most == 0) return v;
  const int s = std::ilogb(most) - 14;
  return std::ldexp(nearest(std::ldexp(v, -s), 11, -24), s);
}
double e4m3_value(double v, double most) {
  const int s = e4m3_exponent(most);
  return std::ldexp(nearest(std::ldexp(v, -s), 4, -9), s);
}
double bf16_value(double v) {
  return nearest(v, 8, -133);
}

uint32_t below(uint32_t count, std::mt19937* random) {
  return static_cast<uint32_t>((*random)() % count);
}

// Rows of all magnitudes: ties, zeros, denormals, blocks of zeros, and elements that a block's
// largest takes out of the range of its codes.
std::vector<float> random_row(uint32_t count, std::mt19937* random) {
  std::vector<float> row(count);
  const int binade = static_cast<int>(below(274, random)) - 149;  // up to 2^124
  const uint32_t spread = 1 + below(40, random);
  for (float& v : row) {
    const int exponent = binade - static_cast<int>(below(spread, random));
    const uint32_t bits = 1 + below(24, random);  // few digits make ties
    const double digits = below(1u << bits, random) / std::ldexp(1.0, static_cast<int>(bits));
    const double sign = below(2, random) == 0 ? 1 : -1;
    v = static_cast<float>(std::ldexp(sign * (1 + digits), exponent));
    if (below(8, random) == 0) v = 0;
  }
  if (below(16, random) == 0) std::fill_n(row.begin(), std::min(count, 32u), 0.0F);
  return row;
}

template <class Value>
void expect_blocks(Rounding rounding, uint32_t block, Value value) {
  std::mt19937 random(static_cast<uint32_t>(rounding));
  for (int trial = 0; trial < 3000; ++trial) {
    const uint32_t count = 1 + below(300, &random);
    const std::vector<float> row = random_row(count, &random);
    std::vector<float> out(count);
    round_input(rounding, row.data(), count, out.data());
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t begin = i / block * block;
      const auto whole = std::span(row).subspan(begin, std::min(block, count - begin));
      const double expected = value(static_cast<double>(row[i]), largest_of(whole));
      ASSERT_EQ(static_cast<double>(out[i]), expected) << row[i] << " of trial " << trial;
      ASSERT_TRUE(row[i] == 0 || std::signbit(out[i]) == std::signbit(row[i]));
    }
  }
}

TEST(RoundInput, E4m3BlocksHaveTheirDefinition) {
  expect_blocks(Rounding::kE4m3, 32, e4m3_value);
}

TEST(RoundInput, F16BlocksHaveTheirDefinition) {
  expect_blocks(Rounding::kF16, 128, f16_value);
}

TEST(RoundInput, Bf16PairsHaveTheirDefinition) {
  expect_blocks(Rounding::kBf16Pair, 1, [](double v, double) {
    const double high = bf16_value(v);
    return high + bf16_value(v - high);
  });
}

TEST(RoundInput, NoneCopies) {
  const std::vector<float> row = {1.0F / 3, -0.0F, 1e-40F, kInfinity};
  std::vector<float> out(row.size());
  round_input(Rounding::kNone, row.data(), 4, out.data());
  EXPECT_EQ(out, row);
}

// Halfway between two codes, to the even one.
TEST(RoundInput, TiesGoToEven) {
  std::vector<float> row(32, 0.0F);
  row[0] = 448;  // scale 1
  row[1] = 17;   // units of 2
  row[2] = 19;
  row[3] = 0x1p-10F;  // half of the smallest code
  row[4] = 3 * 0x1p-10F;
  row[5] = -row[2];
  round_input(Rounding::kE4m3, row.data(), 32, row.data());
  EXPECT_EQ(std::vector(row.begin(), row.begin() + 6),
            (std::vector<float>{448, 16, 20, 0, 0x1p-8F, -20}));
  row[0] = 0x1p14F;  // scale 1
  row[1] = 2049;     // units of 2
  row[2] = 2051;
  row[3] = 0x1p-25F;
  row[4] = 3 * 0x1p-25F;
  round_input(Rounding::kF16, row.data(), 32, row.data());
  EXPECT_EQ(std::vector(row.begin(), row.begin() + 5),
            (std::vector<float>{0x1p14F, 2048, 2052, 0, 0x1p-23F}));
}

// The block with one, and no other.
TEST(RoundInput, NotANumberFillsItsBlock) {
  for (const auto& [rounding, block] :
       {std::pair(Rounding::kE4m3, 32u), std::pair(Rounding::kF16, 128u)}) {
    for (const float bad : {kNotANumber, kInfinity, -kInfinity}) {
      std::vector<float> row(3 * block, 1.0F);
      row[block + 5] = bad;
      round_input(rounding, row.data(), 3 * block, row.data());
      for (uint32_t i = 0; i < row.size(); ++i) {
        if (i / block == 1) {
          EXPECT_TRUE(std::isnan(row[i]));
        } else {
          EXPECT_EQ(row[i], 1.0F);
        }
      }
    }
  }
  std::vector<float> row = {1, kNotANumber, kInfinity, 1};
  round_input(Rounding::kBf16Pair, row.data(), 4, row.data());
  EXPECT_EQ(row[0], 1);
  EXPECT_TRUE(std::isnan(row[1]) && std::isnan(row[2]));
  EXPECT_EQ(row[3], 1);
}

TEST(RoundInput, TheFormOfTheMatrixDecides) {
  using enum Rounding;
  const auto all = [](Activations activations) {
    std::vector<Rounding> roundings;
    for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBf16,
                                      WeightFormat::kFp8Block128, WeightFormat::kMxfp4}) {
      roundings.push_back(input_rounding(activations, format));
    }
    return roundings;
  };
  EXPECT_EQ(all(Activations::kF32), std::vector(4, kNone));
  EXPECT_EQ(all(Activations::kInt8), std::vector(4, kNone));
  EXPECT_EQ(all(Activations::kW4a16), (std::vector{kNone, kBf16Pair, kF16, kF16}));
  EXPECT_EQ(all(Activations::kW4a8), (std::vector{kNone, kBf16Pair, kF16, kE4m3}));
}

TEST(RoundCacheRow, HasItsDefinition) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 2000; ++trial) {
    const uint32_t count = 1 + below(192, &random);
    const std::vector<float> row = random_row(count, &random);
    std::vector<float> f32 = row, bf16 = row, fp8 = row;
    const int exponent = static_cast<int>(below(121, &random)) - 60;
    const auto scale = static_cast<float>(std::ldexp(1.0, exponent));
    round_cache_row(KvCacheType::kF32, scale, count, f32.data());
    round_cache_row(KvCacheType::kBf16, scale, count, bf16.data());
    round_cache_row(KvCacheType::kFp8, scale, count, fp8.data());
    EXPECT_EQ(f32, row);
    for (uint32_t i = 0; i < count; ++i) {
      const auto v = static_cast<double>(row[i]);
      ASSERT_EQ(static_cast<double>(bf16[i]), bf16_value(v)) << row[i];
      const double code = std::clamp(nearest(std::ldexp(v, -exponent), 4, -9), -448.0, 448.0);
      ASSERT_EQ(static_cast<double>(fp8[i]), std::ldexp(code, exponent)) << row[i];
    }
  }
}

TEST(RoundCacheRow, NotANumberFillsIt) {
  for (const KvCacheType type : {KvCacheType::kBf16, KvCacheType::kFp8}) {
    for (const float bad : {kNotANumber, kInfinity, -kInfinity}) {
      std::vector<float> row = {1, bad, 2};
      round_cache_row(type, 1, 3, row.data());
      for (const float value : row) EXPECT_TRUE(std::isnan(value));
    }
  }
}

TEST(RoundInput, WeightsTakeNoMoreMemory) {
  program::Program program;
  program.weights.push_back({"fp8", WeightFormat::kFp8Block128, 32, 256, 3});
  const auto bytes = [&](Activations activations) {
    CpuOptions options;
    options.activations = activations;
    return make_cpu_executor(options)->weight_bytes(program);
  };
  EXPECT_EQ(bytes(Activations::kW4a8), bytes(Activations::kF32));
  EXPECT_EQ(bytes(Activations::kW4a16), bytes(Activations::kF32));
}

}  // namespace
}  // namespace ultraspeed::cpu
