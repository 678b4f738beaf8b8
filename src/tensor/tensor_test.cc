// Exhaustive checks of the number formats against their definitions, written as plain arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "tensor/bf16.h"
#include "tensor/block_scale.h"
#include "tensor/e4m3.h"
#include "tensor/f16.h"
#include "tensor/mxfp4.h"
#include "tensor/rope.h"

namespace ultraspeed::tensor {
namespace {

struct Stretch {
  uint32_t pair;
  double frequency;
};

void expect_stretched(const Rope& rope, uint32_t rotary_dim, const std::vector<Stretch>& expected) {
  for (const Stretch& stretch : expected) {
    const double plain =
        std::pow(static_cast<double>(rope.theta), -2.0 * stretch.pair / rotary_dim);
    EXPECT_NEAR(stretched(rope, stretch.pair, static_cast<float>(plain)), stretch.frequency,
                3e-6 * stretch.frequency)
        << stretch.pair;
  }
}

// Computed in binary64 by the formulas of transformers 5.17 (modeling_rope_utils.py), as published
// for Llama 3.1 and later: fast pairs, those on the ramp, slow ones.
TEST(Rope, StretchesByTurnsAsLlama3) {
  Rope rope = {.theta = 5e5F, .scaling = Rope::Scaling::kLlama3, .factor = 32};
  rope.ramp_slow = 1;
  rope.ramp_fast = 4;
  rope.original_positions = 8192;
  expect_stretched(rope, 64,
                   {{0, 1},
                    {10, 0.016560440080994446},
                    {14, 0.003211445994752591},
                    {15, 0.001290547928209264},
                    {16, 0.00042955679655936815},
                    {17, 9.70828780262767e-05},
                    {18, 1.9461638184831125e-05},
                    {31, 9.41830672543491e-08}});
}

// As published for gpt-oss.
TEST(Rope, StretchesByPairsAsYarn) {
  Rope rope = {.theta = 150000, .scaling = Rope::Scaling::kYarn, .factor = 32};
  rope.ramp_fast = 8.092779F;
  rope.ramp_slow = 17.398024F;
  expect_stretched(rope, 64,
                   {{0, 1},
                    {8, 0.050813274815461475},
                    {9, 0.03170569618466377},
                    {12, 0.006794959489732219},
                    {17, 0.0001293187012450632},
                    {18, 3.8308812373753384e-05},
                    {31, 3.0235114281192144e-07}});
}

TEST(Bf16, AllCodesRoundTripAndRoundToEven) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float value = bf16_to_float(static_cast<uint16_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(bf16_from_float(value))));
    } else {
      EXPECT_EQ(bf16_from_float(value), code);
    }
  }
  EXPECT_EQ(bf16_from_float(1.0F + 0x1p-8F), 0x3f80);                     // tie, to even below
  EXPECT_EQ(bf16_from_float(1.0F + 0x1p-7F + 0x1p-8F), 0x3f82);           // tie, to even above
  EXPECT_EQ(bf16_from_float(1.0F + 0x1p-8F + 0x1p-20F), 0x3f81);          // above the tie
  EXPECT_EQ(bf16_from_float(std::numeric_limits<float>::max()), 0x7f80);  // to infinity
}

float e4m3_by_definition(uint32_t code) {
  const float sign = (code & 0x80) != 0 ? -1.0F : 1.0F;
  const int exponent = static_cast<int>((code >> 3) & 15);
  const auto mantissa = static_cast<float>(code & 7);
  if (exponent == 15 && (code & 7) == 7) return std::nanf("");
  if (exponent == 0) return sign * std::ldexp(mantissa / 8.0F, -6);
  return sign * std::ldexp(1.0F + mantissa / 8.0F, exponent - 7);
}

TEST(E4m3, AllCodesMatchTheDefinitionAndRoundTrip) {
  for (uint32_t code = 0; code < 256; ++code) {
    const float expected = e4m3_by_definition(code);
    const float value = kE4m3Values[code];
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << code;
      EXPECT_TRUE(std::isnan(e4m3_to_float(e4m3_from_float(value))));
      continue;
    }
    EXPECT_EQ(value, expected) << code;
    EXPECT_EQ(e4m3_from_float(value), code);
  }
}

TEST(E4m3, RoundsToNearestEvenEverywhere) {
  // Every midpoint of neighbours goes to the even code, and either side of it to its own.
  for (uint32_t code = 0; code < 0x7e; ++code) {
    const float low = kE4m3Values[code];
    const float high = kE4m3Values[code + 1];
    const float middle = (low + high) / 2.0F;
    EXPECT_EQ(e4m3_from_float(middle), code % 2 == 0 ? code : code + 1) << code;
    EXPECT_EQ(e4m3_from_float(std::nextafter(middle, 0.0F)), code);
    EXPECT_EQ(e4m3_from_float(std::nextafter(middle, 1e9F)), code + 1);
    EXPECT_EQ(e4m3_from_float(-std::nextafter(middle, 1e9F)), (code + 1) | 0x80);
  }
  EXPECT_EQ(e4m3_from_float(1e9F), 0x7e);
  EXPECT_EQ(e4m3_from_float(-std::numeric_limits<float>::infinity()), 0xfe);
}

double f16_by_definition(uint32_t code) {
  const double sign = (code & 0x8000) != 0 ? -1 : 1;
  const int exponent = static_cast<int>((code >> 10) & 31);
  const double mantissa = code & 0x3ff;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(F16, AllCodesMatchTheDefinitionAndRoundTrip) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float value = f16_to_float(static_cast<uint16_t>(code));
    if ((code & 0x7fff) > 0x7c00) {
      EXPECT_TRUE(std::isnan(value)) << code;
      EXPECT_TRUE(std::isnan(f16_to_float(f16_from_float(value))));
      continue;
    }
    if ((code & 0x7fff) == 0x7c00) {
      EXPECT_TRUE(std::isinf(value)) << code;
    } else {
      EXPECT_EQ(static_cast<double>(value), f16_by_definition(code)) << code;
    }
    EXPECT_EQ(f16_from_float(value), code);
  }
}

TEST(F16, RoundsToNearestEvenEverywhere) {
  for (uint32_t code = 0; code < 0x7c00; ++code) {  // the last neighbour would be 2^16: infinity
    const double low = f16_by_definition(code);
    const double high = f16_by_definition(code + 1);
    const auto middle = static_cast<float>((low + high) / 2);
    const auto rounded = [](float value) { return f16_from_float(value); };
    EXPECT_EQ(rounded(middle), code % 2 == 0 ? code : code + 1) << code;
    EXPECT_EQ(rounded(std::nextafter(middle, 0.0F)), code);
    EXPECT_EQ(rounded(std::nextafter(middle, 1e9F)), code + 1);
    EXPECT_EQ(rounded(-std::nextafter(middle, 1e9F)), (code + 1) | 0x8000);
  }
  EXPECT_EQ(f16_from_float(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_EQ(f16_from_float(std::numeric_limits<float>::denorm_min()), 0);
}

// Of the first and the last value and of each side of .75 in every binade, by their definitions.
TEST(BlockScale, IsTheLeastThatFitsAndBringsTheLargestIntoTheBinade) {
  for (uint32_t exponent = 0; exponent < 255; ++exponent) {
    for (const uint32_t fraction : {0u, 1u, 0x5fffffu, 0x600000u, 0x600001u, 0x7fffffu}) {
      const uint32_t bits = exponent << 23 | fraction;
      const double most = std::bit_cast<float>(bits);
      int least = -126;
      while (most > std::ldexp(448.0, least)) ++least;
      EXPECT_EQ(e4m3_scale(bits).exponent, least) << most;
      const int binade = most == 0 ? -200 : std::ilogb(most);
      EXPECT_EQ(f16_scale(bits).exponent, std::max(binade - 14, -126)) << most;
      EXPECT_FALSE(e4m3_scale(bits).is_nan || f16_scale(bits).is_nan);
    }
  }
  for (const float value : {INFINITY, -INFINITY, NAN, -NAN}) {
    EXPECT_TRUE(e4m3_scale(magnitude_bits(value)).is_nan);
    EXPECT_TRUE(f16_scale(magnitude_bits(value)).is_nan);
  }
  for (int exponent = -126; exponent < 128; ++exponent) {
    EXPECT_EQ(static_cast<double>(power_of_two(exponent)), std::ldexp(1.0, exponent));
  }
}

// Nearest by search, ties to the even code, for every multiple of 1/64 and its neighbours.
TEST(E2m1, RoundsToNearestEvenAndSaturates) {
  const auto expected = [](float magnitude) {
    uint32_t best = 0;
    for (uint32_t code = 1; code < 8; ++code) {
      const float distance = std::abs(kE2m1Values[code] - magnitude);
      const float least = std::abs(kE2m1Values[best] - magnitude);
      if (distance < least || (distance == least && code % 2 == 0)) best = code;
    }
    return best;
  };
  for (uint32_t i = 0; i <= 64 * 8; ++i) {
    const float middle = static_cast<float>(i) / 64.0F;
    for (const float value : {std::nextafter(middle, 0.0F), middle, std::nextafter(middle, 9.0F)}) {
      EXPECT_EQ(e2m1_from_float(value), expected(value)) << value;
      EXPECT_EQ(e2m1_from_float(-value), expected(value) | 8) << value;
    }
  }
  for (uint8_t code = 0; code < 16; ++code) EXPECT_EQ(e2m1_from_float(kE2m1Values[code]), code);
  EXPECT_EQ(e2m1_from_float(std::numeric_limits<float>::max()), 7);
  EXPECT_EQ(e2m1_from_float(-std::numeric_limits<float>::infinity()), 15);
}

TEST(E4m3, WeightScaleBringsTheLargestToTheLargestCode) {
  EXPECT_EQ(e4m3_weight_scale(0.0F), 1.0F);
  EXPECT_EQ(e4m3_weight_scale(448.0F), 1.0F);
  EXPECT_EQ(e4m3_weight_scale(1.0F), 1.0F / 448.0F);
  EXPECT_EQ(e4m3_weight_scale(0x1p-126F), 0x1p-126F);
}

TEST(Mxfp4, AllCodesTimesAllScalesAreExact) {
  for (uint32_t scale = 0; scale < 255; ++scale) {
    const float factor = e8m0_to_float(static_cast<uint8_t>(scale));
    EXPECT_EQ(factor, std::ldexp(1.0F, static_cast<int>(scale) - 127));
    for (uint32_t code = 0; code < 16; ++code) {
      const double expected =
          std::ldexp(static_cast<double>(kE2m1Values[code]), static_cast<int>(scale) - 127);
      // Only 6 * 2^127 and 4 * 2^127 and friends leave the range of binary32.
      if (std::abs(expected) > static_cast<double>(std::numeric_limits<float>::max())) continue;
      if (expected != 0.0 && std::abs(expected) < 0x1p-149) continue;
      EXPECT_EQ(static_cast<double>(kE2m1Values[code] * factor), expected);
    }
  }
  EXPECT_TRUE(std::isnan(e8m0_to_float(kE8m0Nan)));
}

TEST(Mxfp4, LowNibbleIsTheEvenColumn) {
  const uint8_t row[2] = {0xa3, 0x1f};
  EXPECT_EQ(mxfp4_code(row, 0), 0x3);
  EXPECT_EQ(mxfp4_code(row, 1), 0xa);
  EXPECT_EQ(mxfp4_code(row, 2), 0xf);
  EXPECT_EQ(mxfp4_code(row, 3), 0x1);
}

}  // namespace
}  // namespace ultraspeed::tensor
