#include "apps/mode_statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace ultraspeed::apps {
namespace {

std::vector<double> softmax(const std::vector<float>& logits) {
  double sum = 0;
  std::vector<double> p;
  for (const float logit : logits) sum += p.emplace_back(std::exp(static_cast<double>(logit)));
  for (double& value : p) value /= sum;
  return p;
}

TEST(Distribution, ComparesAsTheDefinitionDoes) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const float distance : {1e-4F, 0.01F, 1.0F, 10.0F}) {
    std::vector<float> a(1000), b(1000);
    for (size_t i = 0; i < a.size(); ++i) {
      a[i] = 5 * normal(random);
      b[i] = a[i] + distance * normal(random) + 3;  // a common shift changes nothing
    }
    const auto p = softmax(a), q = softmax(b);
    double kl = 0;
    for (size_t i = 0; i < p.size(); ++i) kl += p[i] * std::log(p[i] / q[i]);
    const Distribution distribution(a);
    EXPECT_NEAR(distribution.nll(7), -std::log(p[7]), 1e-5);
    const auto difference = distribution.compare(b, 7);
    EXPECT_NEAR(difference.kl, kl, 1e-5 * kl + 1e-15);
    EXPECT_NEAR(difference.nll, -std::log(q[7]), 1e-5);
    const auto largest = [](const std::vector<double>& values) {
      return std::max_element(values.begin(), values.end()) - values.begin();
    };
    EXPECT_EQ(difference.has_same_argmax, largest(p) == largest(q));
  }
}

TEST(Distribution, EqualLogitsDifferByNothing) {
  const std::vector<float> logits = {1, 4, 2};
  const Distribution distribution(logits);
  EXPECT_EQ(distribution.argmax(), 1u);
  const auto difference = distribution.compare(logits, 2);
  EXPECT_EQ(difference.kl, 0);
  EXPECT_EQ(difference.nll, distribution.nll(2));
  EXPECT_TRUE(difference.has_same_argmax);
  EXPECT_FALSE(distribution.compare(std::vector<float>{4, 1, 2}, 2).has_same_argmax);
}

TEST(StatisticsOf, MeansAndTheQuantile) {
  std::vector<Distribution::Difference> differences;
  std::vector<double> exact;
  for (int i = 1; i <= 2000; ++i) {
    differences.push_back(
        {.kl = i * 1e-3, .nll = i % 2 == 0 ? 3.0 : 1.0, .has_same_argmax = i > 500});
    exact.push_back(1.5);
  }
  const Statistics statistics = statistics_of(differences, exact);
  EXPECT_EQ(statistics.num_tokens, 2000u);
  EXPECT_NEAR(statistics.kl_mean, 1.0005, 1e-9);
  EXPECT_NEAR(statistics.kl_999, 1.998, 1e-9);
  EXPECT_NEAR(statistics.kl_max, 2, 1e-9);
  EXPECT_NEAR(statistics.agreement, 0.75, 1e-9);
  EXPECT_NEAR(statistics.nll_mean, 2, 1e-9);
  EXPECT_NEAR(statistics.nll_change, 0.5, 1e-9);
  EXPECT_NEAR(statistics.nll_change_error, std::sqrt(1 / 1999.0), 1e-9);
}

}  // namespace
}  // namespace ultraspeed::apps
