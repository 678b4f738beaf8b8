// Philox against the published known answers, and the variates made from it.
#include "base/philox.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

namespace ultraspeed {
namespace {

// The file kat_vectors of the authors' library Random123, lines "philox4x32 10".
TEST(Philox, EqualsThePublishedVectors) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(
      philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
      (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, EveryPartOfSeedStreamAndIndexMatters) {
  const std::vector<uint64_t> parts = {0, 1, uint64_t{1} << 32, ~uint64_t{0}};
  std::set<uint32_t> seen;
  size_t count = 0;
  for (const uint64_t seed : parts) {
    for (const uint64_t stream : parts) {
      for (const uint32_t index : {0u, 1u, 2u, 3u, 4u, 0xffffffffu}) {
        seen.insert(random_bits(seed, stream, index));
        ++count;
      }
    }
  }
  EXPECT_EQ(seen.size(), count);
}

TEST(Philox, WordsOfAGroupAreTheStreamInOrder) {
  const auto group = random_group(7, 9, 3);
  for (uint32_t lane = 0; lane < 4; ++lane) {
    EXPECT_EQ(random_bits(7, 9, 12 + lane), group[lane]);
  }
}

TEST(Philox, UniformStaysInsideTheOpenInterval) {
  EXPECT_EQ(uniform_from_bits(0), 0x1p-33);
  EXPECT_EQ(uniform_from_bits(0xffffffffu), 1 - 0x1p-33);
  EXPECT_EQ(uniform_from_bits(0x80000000u), 0.5 + 0x1p-33);
}

// Kolmogorov-Smirnov distance of n samples; sqrt(n) times it exceeds 2.5 with probability 8e-6.
double scaled_distance(std::vector<double> samples, double (*distribution)(double)) {
  std::sort(samples.begin(), samples.end());
  const double n = static_cast<double>(samples.size());
  double distance = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const double p = distribution(samples[i]);
    const double below = static_cast<double>(i) / n;
    distance = std::max({distance, p - below, below + 1 / n - p});
  }
  return distance * std::sqrt(n);
}

TEST(Philox, VariatesHaveTheirDistributions) {
  std::vector<double> uniform;
  std::vector<double> gumbel;
  for (uint32_t index = 0; index < 100'000; ++index) {
    uniform.push_back(random_uniform(1, 2, index));
    gumbel.push_back(gumbel_from_bits(random_bits(1, index, 5)));
  }
  EXPECT_LT(scaled_distance(uniform, [](double x) { return x; }), 2.5);
  EXPECT_LT(scaled_distance(gumbel, [](double x) { return std::exp(-std::exp(-x)); }), 2.5);
  for (double& x : uniform) x = x * x;
  EXPECT_GT(scaled_distance(uniform, [](double x) { return x; }), 2.5);
}

TEST(Philox, GumbelStaysBelowItsBound) {
  for (uint32_t zeros = 0; zeros < 32; ++zeros) {
    for (const uint32_t v : {0x80000000u >> zeros, 0xffffffffu >> zeros}) {
      EXPECT_LT(gumbel_from_bits(~v), gumbel_upper_bound(~v)) << v;
    }
  }
  EXPECT_LT(gumbel_from_bits(0xffffffffu), kMaxGumbel);
  EXPECT_GT(gumbel_from_bits(0xffffffffu), kMaxGumbel - 1e-9);
  for (uint32_t index = 0; index < 10'000; ++index) {
    const uint32_t bits = random_bits(3, 0, index);
    EXPECT_LT(gumbel_from_bits(bits), gumbel_upper_bound(bits));
  }
}

}  // namespace
}  // namespace ultraspeed
