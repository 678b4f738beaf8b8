#include "quantize/scale_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/philox.h"
#include "quantize/encoder.h"
#include "support/scale.h"

namespace ultraspeed::quantize {
namespace {

std::vector<float> block_with(std::vector<float> values) {
  values.resize(32);
  return values;
}

int exponent_of(ScaleRule rule, const std::vector<float>& values) {
  return int{choose_scale(rule, block_with(values))} - 127;
}

// By hand: m between 4 and 8 has floor(log2 m) - 2 = 0.
TEST(ScaleRule, ExponentsByHand) {
  struct Case {
    float largest;
    int even, rceil, floor;
  };
  const std::vector<Case> cases = {
      {4.0F, 0, 0, 0},  // 4
      {6.0F, 0, 0, 0},  // the largest code
      {std::nextafter(6.0F, 7.0F), 0, 1, 0},
      {std::nextafter(7.0F, 6.0F), 0, 1, 0},  // rounds to 6: clips
      {7.0F, 1, 1, 0},                        // rounds to 8
      {std::nextafter(8.0F, 7.0F), 1, 1, 0},
      {8.0F, 1, 1, 1},
      {3.0F, -1, -1, -1},
      {3.5F, 0, 0, -1},
      {1.0F, -2, -2, -2},
      {0x1.8p-20F, -22, -22, -22},
      {-7.5F, 1, 1, 0},  // magnitudes count
  };
  for (const Case& test : cases) {
    EXPECT_EQ(exponent_of(ScaleRule::kEven, {test.largest}), test.even) << test.largest;
    EXPECT_EQ(exponent_of(ScaleRule::kRceil, {test.largest}), test.rceil) << test.largest;
    EXPECT_EQ(exponent_of(ScaleRule::kFloor, {test.largest}), test.floor) << test.largest;
  }
}

TEST(ScaleRule, EndsOfTheRange) {
  const float most = std::numeric_limits<float>::max();
  for (const ScaleRule rule : kAllScaleRules) {
    EXPECT_EQ(choose_scale(rule, block_with({0.0F, -0.0F})), 0);
    EXPECT_EQ(choose_scale(rule, block_with({std::numeric_limits<float>::denorm_min()})), 0);
    EXPECT_EQ(choose_scale(rule, block_with({0x1p-126F})), 0);
    const int exponent = exponent_of(rule, {most});
    EXPECT_TRUE(exponent == 125 || exponent == 126) << exponent;
  }
  for (int code = 0; code <= 254; ++code) {
    EXPECT_EQ(inverse_scale(static_cast<uint8_t>(code)), std::ldexp(1.0F, 127 - code)) << code;
  }
}

TEST(ScaleRule, SearchTakesTheLeastError) {
  EXPECT_EQ(exponent_of(ScaleRule::kSearch, {7.9F}), 1);  // 8 is nearer than 6
  EXPECT_EQ(exponent_of(ScaleRule::kSearch, {6.4F}), 0);
  std::vector<float> values = {7.1F};
  values.resize(20, 0.5F);  // exact at 2^0, half as fine as 2^1's least: a tie to zero
  EXPECT_EQ(exponent_of(ScaleRule::kSearch, values), 0);
  EXPECT_EQ(exponent_of(ScaleRule::kEven, values), 1);
  EXPECT_EQ(exponent_of(ScaleRule::kSearch, {6.0F, 3.0F}), 0);  // exact, as at no other
}

TEST(ScaleRule, SearchIsNeverWorse) {
  for (uint32_t trial = 0; trial < 2000; ++trial) {
    std::vector<float> block(32);
    for (uint32_t i = 0; i < 32; ++i) {
      block[i] = static_cast<float>(random_uniform(7, trial, i) - 0.5) *
                 static_cast<float>(std::exp2(4 * random_uniform(8, trial, i)));
    }
    const auto error_of = [&](ScaleRule rule) {
      std::vector<float> values = block;
      EncodedRows rows;
      encode_mxfp4(rule, values, 32, &rows);
      return rows.errors.at(0).errors;
    };
    const double search = error_of(ScaleRule::kSearch);
    for (const ScaleRule rule : kAllScaleRules) EXPECT_LE(search, error_of(rule)) << trial;
  }
}

// Blocks of a Gaussian times a random part of an octave. The figures are those measured by another
// implementation: docs/quantize.md.
TEST(ScaleRule, ErrorsOfGaussianBlocks) {
  struct Figure {
    ScaleRule rule;
    double relative_square_error;
    double clipped;
  };
  const std::vector<Figure> figures = {{ScaleRule::kEven, 1.258e-2, 0.22},
                                       {ScaleRule::kFloor, 1.326e-2, 0.415},
                                       {ScaleRule::kRceil, 1.366e-2, 0},
                                       {ScaleRule::kSearch, 1.248e-2, 0.27}};
  const auto num_blocks = static_cast<uint32_t>(test::scaled(40'000));
  std::vector<EncodedRows> all(figures.size());
  for (uint32_t block = 0; block < num_blocks; ++block) {
    const double scale = std::exp2(random_uniform(1, block, 1000));
    std::vector<float> values(32);
    for (uint32_t i = 0; i < 32; i += 2) {  // Box and Muller
      const double radius = scale * std::sqrt(-2 * std::log(random_uniform(1, block, i)));
      const double angle = 2 * M_PI * random_uniform(1, block, i + 1);
      values[i] = static_cast<float>(radius * std::cos(angle));
      values[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
    for (size_t i = 0; i < figures.size(); ++i) {
      std::vector<float> copy = values;
      encode_mxfp4(figures[i].rule, copy, 32, &all[i]);
    }
  }
  for (size_t i = 0; i < figures.size(); ++i) {
    RowError sum;
    for (const RowError& row : all[i].errors) {
      sum.values += row.values;
      sum.errors += row.errors;
    }
    const Figure& figure = figures[i];
    EXPECT_NEAR(sum.errors / sum.values / figure.relative_square_error, 1, 0.02)
        << scale_rule_name(figure.rule) << ": " << sum.errors / sum.values;
    EXPECT_NEAR(static_cast<double>(all[i].num_clipped) / num_blocks, figure.clipped, 0.015)
        << scale_rule_name(figure.rule);
  }
}

}  // namespace
}  // namespace ultraspeed::quantize
