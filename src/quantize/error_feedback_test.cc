// GPTQ on problems with known inputs, and the linear algebra under it.
#include "quantize/error_feedback.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/philox.h"
#include "quantize/feedback_encoder.h"
#include "quantize/triangular.h"

namespace ultraspeed::quantize {
namespace {

// Sum of 12 uniform numbers: near enough to Gaussian.
double random_normal(uint64_t seed, uint64_t place) {
  double sum = -6;
  for (uint32_t i = 0; i < 12; ++i) sum += random_uniform(seed, place, i);
  return sum;
}

std::vector<double> random_rows(uint64_t seed, size_t count, size_t size) {
  std::vector<double> rows(count * size);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = random_normal(seed, i);
  return rows;
}

// Inputs whose columns have much in common.
std::vector<double> correlated_rows(uint64_t seed, size_t count, size_t size) {
  std::vector<double> rows = random_rows(seed, count, size);
  constexpr size_t kShared = 8;
  const std::vector<double> shared = random_rows(seed + 1, count, kShared);
  const std::vector<double> mixing = random_rows(seed + 2, size, kShared);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] *= 0.3;
    for (size_t k = 0; k < kShared; ++k) {
      rows[i] += shared[i / size * kShared + k] * mixing[i % size * kShared + k];
    }
  }
  return rows;
}

std::vector<double> squares_of(const std::vector<double>& rows, size_t size,
                               uint32_t num_threads = 1) {
  std::vector<double> squares(size * size);
  add_squares(num_threads, 1, rows, size, size, squares.data());
  return squares;
}

TEST(AddSquares, IsTheUpperTriangleOfTheProduct) {
  for (const size_t size : {1U, 31U, 65U, 600U}) {
    const size_t count = 7;
    const auto rows = random_rows(size, count, size);
    const auto squares = squares_of(rows, size, 3);
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) {
        double expected = 0;
        for (size_t m = 0; m < count && j >= i; ++m)
          expected += rows[m * size + i] * rows[m * size + j];
        ASSERT_NEAR(squares[i * size + j], expected, 1e-12) << size << ": " << i << ", " << j;
      }
    }
  }
}

TEST(FactorUpper, TimesItsTransposeIsTheMatrix) {
  for (const size_t size : {1U, 2U, 63U, 64U, 65U, 200U}) {
    const auto squares = squares_of(random_rows(5, 2 * size, size), size);
    std::vector<double> factor = squares;
    ASSERT_TRUE(factor_upper(2, size, factor.data()));
    for (size_t i = 0; i < size; ++i) {
      EXPECT_GT(factor[i * size + i], 0);
      for (size_t j = i; j < size; ++j) {
        double product = 0;
        for (size_t k = j; k < size; ++k) product += factor[i * size + k] * factor[j * size + k];
        const double unit = std::sqrt(squares[i * size + i] * squares[j * size + j]);
        ASSERT_NEAR(product, squares[i * size + j], 1e-12 * unit) << size << ": " << i << ", " << j;
      }
    }
  }
}

TEST(FactorUpper, RefusesWhatIsNotPositiveDefinite) {
  const size_t size = 70;
  std::vector<double> rank_one = squares_of(random_rows(3, 1, size), size);
  rank_one[0] -= 1e-6;
  EXPECT_FALSE(factor_upper(2, size, rank_one.data()));
  std::vector<double> with_nan = squares_of(random_rows(3, 2 * size, size), size);
  with_nan[40 * size + 50] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(factor_upper(2, size, with_nan.data()));
}

constexpr uint32_t kColumns = 160;
constexpr size_t kRows = 70;

std::vector<float> random_weights(uint64_t seed) {
  std::vector<float> weights(kRows * kColumns);
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = static_cast<float>(0.05 * random_normal(seed, i));
  }
  return weights;
}

ErrorFeedback feedback_of(const std::vector<double>& rows, double damping,
                          uint32_t num_threads = 1) {
  auto squares = squares_of(rows, kColumns, num_threads);
  auto feedback = make_feedback(num_threads, damping, kColumns, &squares);
  EXPECT_TRUE(feedback);
  return *std::move(feedback);
}

// |(W - Q) X|^2
double output_error(const std::vector<float>& weights, const std::vector<float>& rounded,
                    const std::vector<double>& inputs) {
  double sum = 0;
  for (size_t row = 0; row < kRows; ++row) {
    for (size_t x = 0; x < inputs.size(); x += kColumns) {
      double output = 0;
      for (size_t k = 0; k < kColumns; ++k) {
        const size_t i = row * kColumns + k;
        output += static_cast<double>(weights[i] - rounded[i]) * inputs[x + k];
      }
      sum += output * output;
    }
  }
  return sum;
}

TEST(Feedback, LowersTheErrorOfOutputsUnderEveryScaleRule) {
  const auto all = correlated_rows(20, 600, kColumns);
  const auto middle = all.begin() + 400 * kColumns;
  const std::vector<double> inputs(all.begin(), middle), held_out(middle, all.end());
  const ErrorFeedback feedback = feedback_of(inputs, 0.01);
  for (const ScaleRule rule : kAllScaleRules) {
    const std::vector<float> weights = random_weights(9);
    std::vector<float> nearest = weights, fed_back = weights;
    EncodedRows out;
    encode_mxfp4(rule, nearest, kColumns, &out);
    out.clear();
    encode_mxfp4(rule, feedback, fed_back, &out);
    EXPECT_LT(output_error(weights, fed_back, inputs), 0.4 * output_error(weights, nearest, inputs))
        << scale_rule_name(rule);
    EXPECT_LT(output_error(weights, fed_back, held_out),
              0.5 * output_error(weights, nearest, held_out))
        << scale_rule_name(rule);
  }
}

// What the codes stand for is what encoding it again gives, and what was counted is true.
TEST(Feedback, CodesAreTheCodecs) {
  const std::vector<float> weights = random_weights(10);
  std::vector<float> values = weights;
  EncodedRows out;
  encode_mxfp4(ScaleRule::kEven, feedback_of(correlated_rows(30, 300, kColumns), 0.01), values,
               &out);
  ASSERT_EQ(out.codes.size(), values.size() / 2);
  ASSERT_EQ(out.scales.size(), values.size() / 32);
  ASSERT_EQ(out.errors.size(), kRows);
  EXPECT_EQ(out.num_blocks, values.size() / 32);
  double squares = 0, errors = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto pair = std::to_integer<uint8_t>(out.codes[i / 2]);
    const float code = tensor::kE2m1Values[i % 2 == 0 ? pair & 0xfU : pair >> 4];
    ASSERT_EQ(values[i], code * tensor::kE8m0Values[std::to_integer<uint8_t>(out.scales[i / 32])]);
    squares += std::pow(static_cast<double>(weights[i]), 2);
    errors += std::pow(static_cast<double>(weights[i] - values[i]), 2);
  }
  double row_squares = 0, row_errors = 0;
  for (const RowError& row : out.errors) {
    row_squares += row.values;
    row_errors += row.errors;
  }
  EXPECT_NEAR(row_squares, squares, 1e-9 * squares);
  EXPECT_NEAR(row_errors, errors, 1e-6 * errors);
  std::vector<float> again = values;
  EncodedRows second;
  encode_mxfp4(ScaleRule::kEven, again, kColumns, &second);
  EXPECT_EQ(again, values);
}

TEST(Feedback, WithoutCorrelationIsTheNearestCode) {
  std::vector<double> unit(size_t{kColumns} * kColumns);
  for (size_t i = 0; i < kColumns; ++i) unit[i * kColumns + i] = 1 + static_cast<double>(i);
  const std::vector<double> none(kColumns);
  for (const ErrorFeedback& feedback : {feedback_of(unit, 0.01), feedback_of(none, 0.01)}) {
    std::vector<float> nearest = random_weights(11), fed_back = nearest;
    EncodedRows expected, out;
    encode_mxfp4(ScaleRule::kSearch, nearest, kColumns, &expected);
    encode_mxfp4(ScaleRule::kSearch, feedback, fed_back, &out);
    EXPECT_EQ(fed_back, nearest);
    EXPECT_EQ(out.codes, expected.codes);
    EXPECT_EQ(out.scales, expected.scales);
    EXPECT_EQ(out.num_clipped, expected.num_clipped);
    EXPECT_EQ(out.largest, expected.largest);
    EXPECT_EQ(out.largest_error, expected.largest_error);
  }
}

TEST(Feedback, NeitherThreadsNorNeighbouringRowsChangeABit) {
  const auto inputs = correlated_rows(40, 300, kColumns);
  const ErrorFeedback feedback = feedback_of(inputs, 0.01, 1);
  for (const uint32_t num_threads : {2U, 7U}) {
    EXPECT_EQ(feedback_of(inputs, 0.01, num_threads).panels, feedback.panels);
  }
  std::vector<float> whole = random_weights(12), row_by_row = whole;
  EncodedRows out, single;
  encode_mxfp4(ScaleRule::kEven, feedback, whole, &out);
  for (size_t row = 0; row < kRows; ++row) {
    encode_mxfp4(ScaleRule::kEven, feedback,
                 std::span(row_by_row).subspan(row * kColumns, kColumns), &single);
  }
  EXPECT_EQ(row_by_row, whole);
  EXPECT_EQ(single.codes, out.codes);
  EXPECT_EQ(single.scales, out.scales);
}

TEST(Feedback, MuchDampingIsTheNearestCode) {
  std::vector<float> nearest = random_weights(13), fed_back = nearest;
  EncodedRows out;
  encode_mxfp4(ScaleRule::kEven, nearest, kColumns, &out);
  encode_mxfp4(ScaleRule::kEven, feedback_of(correlated_rows(50, 300, kColumns), 1e9), fed_back,
               &out);
  EXPECT_EQ(fed_back, nearest);
}

}  // namespace
}  // namespace ultraspeed::quantize
