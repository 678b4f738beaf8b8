// sample_column against a naive oracle in float64, and the distribution of its draws.
#include "cpu/ops/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "base/philox.h"

namespace ultraspeed::cpu {
namespace {

using program::ColumnSampling;
using program::LogitAdjustment;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<double> softmax(const std::vector<double>& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  std::vector<double> p;
  for (const double value : x) sum += std::exp(value - largest);
  for (const double value : x) p.push_back(std::exp(value - largest) / sum);
  return p;
}

// The probabilities that sampling draws from, every step written out over the whole vocabulary.
std::vector<double> oracle_probabilities(const std::vector<float>& logits,
                                         const ColumnSampling& sampling) {
  std::vector<double> x;
  for (size_t id = 0; id < logits.size(); ++id) {
    float value = logits[id];
    for (const auto& adjustment : sampling.adjustments) {
      if (static_cast<size_t>(adjustment.token_id) != id) continue;
      value = value > 0 ? value / adjustment.repetition : value * adjustment.repetition;
      value += adjustment.bias;
    }
    x.push_back(value / static_cast<double>(sampling.temperature));
  }
  std::vector<size_t> order(x.size());
  for (size_t id = 0; id < x.size(); ++id) order[id] = id;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return x[a] > x[b]; });
  const double none = -std::numeric_limits<double>::infinity();
  if (sampling.top_k > 0) {
    for (size_t i = sampling.top_k; i < order.size(); ++i) x[order[i]] = none;
  }
  std::vector<double> p = softmax(x);
  double before = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && before >= static_cast<double>(sampling.top_p)) x[order[i]] = none;
    before += p[order[i]];
  }
  p = softmax(x);
  const double largest = p[order[0]];
  for (size_t id = 0; id < x.size(); ++id) {
    if (p[id] < sampling.min_p * largest) x[id] = none;
  }
  return softmax(x);
}

int32_t oracle_choice(const std::vector<float>& logits, uint32_t position,
                      const ColumnSampling& sampling) {
  const std::vector<double> p = oracle_probabilities(logits, sampling);
  int32_t best_id = -1;
  double best = -std::numeric_limits<double>::infinity();
  for (uint32_t id = 0; id < p.size(); ++id) {
    if (p[id] == 0) continue;
    const double noisy =
        std::log(p[id]) - std::log(-std::log(random_uniform(sampling.seed, position, id)));
    if (noisy > best) {
      best = noisy;
      best_id = static_cast<int32_t>(id);
    }
  }
  return best_id;
}

std::vector<float> random_logits(size_t vocab_size, uint64_t seed, float spread = 3) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(vocab_size);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

int32_t sample(const std::vector<float>& logits, uint32_t position,
               const ColumnSampling& sampling) {
  const auto output = sample_column(logits, position, sampling);
  EXPECT_TRUE(output) << output.error().message;
  return output ? output->token_id : -1;
}

TEST(Sample, GreedyTakesTheLargestAndTheLowerIdOfEquals) {
  EXPECT_EQ(sample({0.5F, 2, -1, 2}, 0, {}), 1);
  EXPECT_EQ(sample({-kInfinity, -3, -kInfinity}, 0, {}), 1);
  // Filters and seed change nothing at temperature 0.
  ColumnSampling sampling;
  sampling.top_k = 1;
  sampling.top_p = 0.1F;
  sampling.min_p = 0.9F;
  sampling.seed = 99;
  EXPECT_EQ(sample({0.5F, 2, -1, 2}, 7, sampling), 1);
}

TEST(Sample, ReportsRawLogprobsWhateverTheParameters) {
  const std::vector<float> logits = {1, 3, 2, 3, -1};
  const std::vector<LogitAdjustment> adjustments = {{1, 2.0F, 0}, {3, 1, -50}, {4, 1, 50}};
  ColumnSampling sampling;
  sampling.temperature = 0.5F;
  sampling.num_logprobs = 3;
  sampling.adjustments = adjustments;
  const auto output = sample_column(logits, 4, sampling);
  ASSERT_TRUE(output);
  EXPECT_EQ(output->token_id, 4);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  EXPECT_FLOAT_EQ(output->logprob, static_cast<float>(-1 - std::log(sum)));
  ASSERT_EQ(output->top_logprobs.size(), 3u);
  const std::vector<int32_t> ids = {1, 3, 2};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(output->top_logprobs[i].first, ids[i]);
    EXPECT_FLOAT_EQ(output->top_logprobs[i].second,
                    static_cast<float>(logits[static_cast<size_t>(ids[i])] - std::log(sum)));
  }
  EXPECT_EQ(output->accepted, 0u);
}

TEST(Sample, TopLogprobsAreSortedAndAtMostTheVocabulary) {
  const std::vector<float> logits = random_logits(1000, 5);
  ColumnSampling sampling;
  sampling.num_logprobs = 128;
  auto output = sample_column(logits, 0, sampling);
  ASSERT_TRUE(output);
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  ASSERT_EQ(output->top_logprobs.size(), 128u);
  for (size_t i = 0; i < 128; ++i) {
    EXPECT_EQ(logits[static_cast<size_t>(output->top_logprobs[i].first)], sorted[i]);
  }
  EXPECT_EQ(output->logprob, output->top_logprobs[0].second);
  output = sample_column(std::vector<float>{1, 2}, 0, sampling);
  ASSERT_TRUE(output);
  EXPECT_EQ(output->top_logprobs.size(), 2u);
}

TEST(Sample, LogprobsStayExactForLargeLogits) {
  const auto output = sample_column(std::vector<float>{10000, 9999, -10000}, 0, {});
  ASSERT_TRUE(output);
  EXPECT_FLOAT_EQ(output->logprob, static_cast<float>(-std::log1p(std::exp(-1.0))));
}

TEST(Sample, PenaltiesComeBeforeTemperatureAndRepetitionBeforeBias) {
  // 4 / 2 + 0.5 = 2.5 and -1 * 2 + 4.4 = 2.4; the other order would give 2.25 and 1.7.
  const std::vector<float> logits = {4, -1, 2.45F};
  const std::vector<LogitAdjustment> adjustments = {{0, 2, 0.5F}, {1, 2, 4.4F}};
  ColumnSampling sampling;
  sampling.adjustments = adjustments;
  EXPECT_EQ(sample(logits, 0, sampling), 0);
  const std::vector<LogitAdjustment> more = {{0, 2, 0.44F}, {1, 2, 4.46F}};
  sampling.adjustments = more;
  EXPECT_EQ(sample(logits, 0, sampling), 1);
  const std::vector<LogitAdjustment> ban = {{0, 1, -kInfinity}, {1, 1, -kInfinity}};
  sampling.adjustments = ban;
  sampling.temperature = 5;
  for (uint32_t position = 0; position < 50; ++position) {
    EXPECT_EQ(sample(logits, position, sampling), 2);
  }
}

TEST(Sample, ForcedTokenIsReportedWithItsRawLogprob) {
  const std::vector<float> logits = {0, 1, 2};
  ColumnSampling sampling;
  sampling.temperature = 1;
  sampling.forced_token_id = 0;
  const auto output = sample_column(logits, 3, sampling);
  ASSERT_TRUE(output);
  EXPECT_EQ(output->token_id, 0);
  EXPECT_FLOAT_EQ(output->logprob, -2.4076059F);
  sampling.forced_token_id = 3;
  const auto outside = sample_column(logits, 3, sampling);
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(outside.error().message.find("forced token is 3, expected 0 to 2"), std::string::npos);
}

TEST(Sample, LogitsThatAreNotNumbersAreErrors) {
  ColumnSampling sampling;
  for (const float temperature : {0.0F, 1.0F}) {
    sampling.temperature = temperature;
    for (const float bad : {kNan, kInfinity}) {
      for (const size_t where : {0u, 1u, 2u}) {
        std::vector<float> logits = {0, 1, 2};
        logits[where] = bad;
        const auto output = sample_column(logits, 42, sampling);
        ASSERT_FALSE(output);
        EXPECT_EQ(output.error().code, ErrorCode::kInvalidData);
        EXPECT_NE(output.error().message.find("after position 42: the logit of token " +
                                              std::to_string(where)),
                  std::string::npos);
      }
    }
    EXPECT_FALSE(sample_column(std::vector<float>{-kInfinity, -kInfinity}, 0, sampling));
  }
}

TEST(Sample, BadAdjustmentsAreErrors) {
  const std::vector<float> logits = {0, 1, 2};
  const auto error = [&](std::vector<LogitAdjustment> adjustments) {
    ColumnSampling sampling;
    sampling.adjustments = adjustments;
    const auto output = sample_column(logits, 0, sampling);
    return output ? std::string() : output.error().message;
  };
  EXPECT_NE(error({{3, 1, 0}}).find("names token 3, expected 0 to 2"), std::string::npos);
  EXPECT_NE(error({{-1, 1, 0}}).find("names token -1"), std::string::npos);
  EXPECT_NE(error({{1, 1, kNan}}).find("adjusted logit of token 1 is nan"), std::string::npos);
  EXPECT_NE(error({{1, 1, kInfinity}}).find("adjusted logit"), std::string::npos);
  EXPECT_NE(error({{0, 1, -kInfinity}, {1, 1, -kInfinity}, {2, 1, -kInfinity}})
                .find("largest adjusted logit"),
            std::string::npos);
}

TEST(Sample, AMaskForbidsTokensAsIfTheirLogitsWereMinusInfinity) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 3);
  for (uint32_t trial = 0; trial < 300; ++trial) {
    std::vector<float> logits(131);
    for (float& logit : logits) logit = normal(random);
    std::vector<uint64_t> allowed = {random(), random(), 1 | random()};
    std::vector<float> masked = logits;
    for (size_t id = 0; id < masked.size(); ++id) {
      if (!program::contains(allowed, id)) masked[id] = -kInfinity;
    }
    ColumnSampling sampling{.temperature = trial % 3 == 0 ? 0.0F : 0.8F,
                            .top_k = trial % 4 == 0 ? 100u : 0u,
                            .top_p = trial % 5 == 0 ? 0.9F : 1.0F,
                            .seed = trial,
                            .adjustments = {},
                            .allowed = {}};
    if (trial % 2 == 0) sampling.proposed_token_id = 128;
    const auto expected = sample_column(masked, trial, sampling);
    sampling.allowed = allowed;
    const auto output = sample_column(logits, trial, sampling);
    ASSERT_TRUE(expected && output);
    EXPECT_EQ(output->token_id, expected->token_id);
    EXPECT_LT(output->logprob, expected->logprob) << "it is that of the raw logits";
  }
}

TEST(Sample, BadMasksAreErrors) {
  const std::vector<float> logits(65, 0.0F);
  const std::vector<uint64_t> nothing(2, 0);
  ColumnSampling sampling;
  sampling.allowed = nothing;
  EXPECT_EQ(sample_column(logits, 4, sampling).error().message,
            "sampling after position 4: the constraint allows no token");
  sampling.allowed = std::span(nothing).first(1);
  EXPECT_EQ(sample_column(logits, 4, sampling).error().message,
            "sampling after position 4: a mask of 1 words for 65 tokens, expected 2");
}

TEST(Sample, FiltersKeepTheRightTokens) {
  // Probabilities 1/2, 1/4, 1/8, 1/8 exactly, out of order.
  const std::vector<float> logits = {-3, -1, -3, -2};
  const auto kept = [&](uint32_t top_k, float top_p, float min_p) {
    ColumnSampling sampling;
    sampling.temperature = static_cast<float>(1 / std::log(2.0));
    sampling.top_k = top_k;
    sampling.top_p = top_p;
    sampling.min_p = min_p;
    std::vector<int32_t> ids;
    for (uint32_t position = 0; position < 200; ++position) {
      ids.push_back(sample(logits, position, sampling));
    }
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(kept(0, 1, 0), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(kept(3, 1, 0), (Ids{0, 1, 3}));  // of the equal 0 and 2 the lower id
  EXPECT_EQ(kept(9, 1, 0), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(kept(1, 1, 0), (Ids{1}));
  EXPECT_EQ(kept(0, 0.49F, 0), (Ids{1}));
  EXPECT_EQ(kept(0, 1e-30F, 0), (Ids{1}));  // always at least one
  EXPECT_EQ(kept(0, 0.51F, 0), (Ids{1, 3}));
  EXPECT_EQ(kept(0, 0.8F, 0), (Ids{0, 1, 3}));
  EXPECT_EQ(kept(0, 0.9F, 0), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(kept(2, 0.66F, 0), (Ids{1}));  // 2/3 after top_k
  EXPECT_EQ(kept(2, 0.67F, 0), (Ids{1, 3}));
  EXPECT_EQ(kept(0, 1, 0.49F), (Ids{1, 3}));
  EXPECT_EQ(kept(0, 1, 0.51F), (Ids{1}));
  EXPECT_EQ(kept(0, 1, 0.24F), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(kept(3, 0.9F, 0.3F), (Ids{1, 3}));
}

TEST(Sample, EqualProbabilitiesReachTopPWithoutRoundingLoss) {
  const std::vector<float> logits(4, 1.5F);
  ColumnSampling sampling;
  sampling.temperature = 0.7F;
  sampling.top_p = 0.5F;
  for (uint32_t position = 0; position < 100; ++position) {
    EXPECT_LT(sample(logits, position, sampling), 2);
  }
}

TEST(Sample, ExtremeTemperaturesStayDefined) {
  const std::vector<float> logits = {1, 1.0001F, -300, 0};
  ColumnSampling sampling;
  sampling.temperature = std::numeric_limits<float>::denorm_min();
  sampling.top_p = 0.9F;
  EXPECT_EQ(sample(logits, 0, sampling), 1);
  sampling.temperature = 1e30F;
  sampling.top_p = 1;
  std::map<int32_t, int> counts;
  for (uint32_t position = 0; position < 400; ++position)
    ++counts[sample(logits, position, sampling)];
  EXPECT_EQ(counts.size(), 4u);
}

TEST(Sample, EqualsTheOracleOnRandomCases) {
  std::mt19937_64 random(1);
  const auto pick = [&](auto... values) {
    const std::vector<float> all = {static_cast<float>(values)...};
    return all[random() % all.size()];
  };
  for (uint64_t round = 0; round < 20'000; ++round) {
    const size_t vocab_size = 1 + random() % 70;
    std::vector<float> logits = random_logits(vocab_size, round, pick(0.1, 1, 5));
    if (round % 4 == 0) {  // ties
      for (float& logit : logits) logit = std::round(logit);
    }
    std::vector<LogitAdjustment> adjustments;
    for (size_t id = 0; id < vocab_size; ++id) {
      if (random() % 8 != 0) continue;
      adjustments.push_back({static_cast<int32_t>(id), pick(1, 1.3, 0.5), pick(0, -2, 1.25)});
    }
    ColumnSampling sampling;
    sampling.temperature = pick(0.01, 0.6, 1, 2);
    sampling.top_k = static_cast<uint32_t>(pick(0, 0, 1, 5, 40));
    sampling.top_p = pick(1, 1, 0.95, 0.703, 0.2011);
    sampling.min_p = pick(0, 0, 0.0511, 0.3007);
    sampling.seed = random();
    sampling.adjustments = adjustments;
    const uint32_t position = static_cast<uint32_t>(random());
    ASSERT_EQ(sample(logits, position, sampling), oracle_choice(logits, position, sampling))
        << "round " << round;
  }
}

TEST(Sample, EqualsTheOracleOnALargeVocabulary) {
  for (const float spread : {0.05F, 3.0F}) {
    const std::vector<float> logits = random_logits(152'064, 11, spread);
    for (const uint32_t top_k : {0u, 50u, 100'000u}) {
      for (const float top_p : {1.0F, 0.9F}) {
        ColumnSampling sampling;
        sampling.temperature = 0.9F;
        sampling.top_k = top_k;
        sampling.top_p = top_p;
        sampling.seed = 5;
        EXPECT_EQ(sample(logits, 1000, sampling), oracle_choice(logits, 1000, sampling));
      }
    }
  }
}

// Chi-square as a standard normal deviate (Wilson and Hilferty 1931).
double chi_square_deviate(double chi_square, double degrees) {
  const double h = 2 / (9 * degrees);
  return (std::cbrt(chi_square / degrees) - (1 - h)) / std::sqrt(h);
}

// The deviate of 10^5 draws from their distribution; draw i has seed and position from `key`.
template <class Key>
double draws_deviate(const std::vector<float>& logits, ColumnSampling sampling,
                     const std::vector<double>& expected, Key key) {
  constexpr uint32_t kDraws = 100'000;
  std::vector<double> counts(logits.size());
  for (uint32_t draw = 0; draw < kDraws; ++draw) {
    const auto [seed, position] = key(draw);
    sampling.seed = seed;
    counts[static_cast<size_t>(sample(logits, position, sampling))] += 1;
  }
  double chi_square = 0;
  double degrees = -1;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (expected[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id << " was filtered out";
      continue;
    }
    const double mean = expected[id] * kDraws;
    chi_square += (counts[id] - mean) * (counts[id] - mean) / mean;
    degrees += 1;
  }
  return chi_square_deviate(chi_square, degrees);
}

constexpr double kMaxDeviate = 4.5;  // exceeded with probability 3.4e-6

TEST(Sample, DrawsFollowTheSoftmaxUnderEveryFilter) {
  const std::vector<float> logits = random_logits(30, 3, 1.2F);
  struct Case {
    float temperature;
    uint32_t top_k;
    float top_p;
    float min_p;
  };
  const std::vector<Case> cases = {
      {1, 0, 1, 0},        {0.6F, 0, 1, 0},      {1.5F, 0, 1, 0},
      {1, 5, 1, 0},        {1, 0, 0.8F, 0},      {1, 0, 1, 0.1F},
      {0.7F, 12, 0.9F, 0}, {1.3F, 20, 1, 0.05F}, {1, 15, 0.95F, 0.08F}};
  for (const Case& c : cases) {
    ColumnSampling sampling;
    sampling.temperature = c.temperature;
    sampling.top_k = c.top_k;
    sampling.top_p = c.top_p;
    sampling.min_p = c.min_p;
    const auto expected = oracle_probabilities(logits, sampling);
    const auto by_position = [](uint32_t draw) { return std::pair<uint64_t, uint32_t>(17, draw); };
    EXPECT_LT(draws_deviate(logits, sampling, expected, by_position), kMaxDeviate)
        << "temperature " << c.temperature << " top_k " << c.top_k << " top_p " << c.top_p
        << " min_p " << c.min_p;
  }
}

TEST(Sample, DrawsFollowTheSoftmaxAcrossSeedsToo) {
  const std::vector<float> logits = random_logits(30, 3, 1.2F);
  ColumnSampling sampling;
  sampling.temperature = 1;
  const auto expected = oracle_probabilities(logits, sampling);
  const auto by_seed = [](uint32_t draw) { return std::pair<uint64_t, uint32_t>(draw, 8); };
  EXPECT_LT(draws_deviate(logits, sampling, expected, by_seed), kMaxDeviate);
  // The test can tell: the same draws do not follow a slightly warmer softmax.
  sampling.temperature = 1.03F;
  const auto warmer = oracle_probabilities(logits, sampling);
  sampling.temperature = 1;
  EXPECT_GT(draws_deviate(logits, sampling, warmer, by_seed), kMaxDeviate);
}

// Pairs (draw a, draw b) must fill the product of their distributions.
template <class First, class Second>
double pairs_deviate(First first, Second second) {
  constexpr uint32_t kPairs = 100'000;
  constexpr uint32_t kVocab = 6;
  const std::vector<float> logits = random_logits(kVocab, 9, 0.7F);
  ColumnSampling sampling;
  sampling.temperature = 1;
  const auto p = oracle_probabilities(logits, sampling);
  const auto draw = [&](std::pair<uint64_t, uint32_t> key) {
    sampling.seed = key.first;
    return static_cast<uint32_t>(sample(logits, key.second, sampling));
  };
  std::vector<double> counts(kVocab * kVocab);
  for (uint32_t i = 0; i < kPairs; ++i) counts[draw(first(i)) * kVocab + draw(second(i))] += 1;
  double chi_square = 0;
  for (uint32_t a = 0; a < kVocab; ++a) {
    for (uint32_t b = 0; b < kVocab; ++b) {
      const double mean = p[a] * p[b] * kPairs;
      const double difference = counts[a * kVocab + b] - mean;
      chi_square += difference * difference / mean;
    }
  }
  return chi_square_deviate(chi_square, kVocab * kVocab - 1);
}

TEST(Sample, DrawsAreIndependentAcrossPositionsAndSeeds) {
  using Key = std::pair<uint64_t, uint32_t>;
  const auto at = [](uint32_t i) { return Key(4, 2 * i); };
  const auto seed = [](uint32_t i) { return Key(2 * uint64_t{i}, 6); };
  EXPECT_LT(pairs_deviate(at, [](uint32_t i) { return Key(4, 2 * i + 1); }), kMaxDeviate);
  EXPECT_LT(pairs_deviate(at, [](uint32_t i) { return Key(5, 2 * i); }), kMaxDeviate);
  EXPECT_LT(pairs_deviate(seed, [](uint32_t i) { return Key(2 * uint64_t{i} + 1, 6); }),
            kMaxDeviate);
  EXPECT_GT(pairs_deviate(at, at), kMaxDeviate);  // the test can tell
}

}  // namespace
}  // namespace ultraspeed::cpu
