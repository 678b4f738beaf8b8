// Blocks: which anchors are possible, what their masks should become, and that the choice is fair
// and a function of its key.
#include "train/block_sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "support/scale.h"

namespace ultraspeed::train {
namespace {

// Two answers, of 4 and 2 tokens, and a token alone.
const std::vector<uint8_t> kAnswers = {0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1};
const std::vector<int32_t> kIds = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20};

TEST(BlockSampler, AnchorsAreAnswerTokensThatAnotherOneFollows) {
  EXPECT_EQ(possible_anchors(kAnswers), (std::vector<int64_t>{1, 2, 3, 7}));
  EXPECT_EQ(possible_anchors(std::vector<uint8_t>{1, 1}), (std::vector<int64_t>{0}));
  EXPECT_TRUE(possible_anchors(std::vector<uint8_t>{1}).empty());
  EXPECT_TRUE(possible_anchors({}).empty());
}

TEST(BlockSampler, LabelsEndWithTheAnswerAndTheText) {
  const SampledBlocks blocks = make_blocks(kIds, kAnswers, std::vector<int64_t>{1, 3, 7}, 5, 4);
  EXPECT_EQ(blocks.anchors, (std::vector<int64_t>{1, 3, 7, 0}));
  EXPECT_EQ(blocks.keep, (std::vector<uint8_t>{1, 1, 1, 0}));
  EXPECT_EQ(blocks.num_kept(), 3u);
  EXPECT_EQ(blocks.labels,
            (std::vector<int64_t>{12, 13, 14, 0, 14, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(blocks.weights, (std::vector<float>{1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}));
}

TEST(BlockSampler, DrawsWithoutReplacementInOrder) {
  const std::vector<uint8_t> mask(40, 1);
  std::vector<int32_t> ids(40);
  std::iota(ids.begin(), ids.end(), 0);
  for (uint32_t step = 0; step < 50; ++step) {
    const SampledBlocks blocks = sample_blocks(ids, mask, 8, 20, {1, step, 0});
    EXPECT_EQ(blocks.num_kept(), 20u);
    EXPECT_TRUE(std::is_sorted(blocks.anchors.begin(), blocks.anchors.end()));
    EXPECT_EQ(std::set<int64_t>(blocks.anchors.begin(), blocks.anchors.end()).size(), 20u);
    EXPECT_LT(blocks.anchors.back(), 39);
    for (size_t i = 0; i < 20; ++i) EXPECT_EQ(blocks.labels[i * 7], blocks.anchors[i] + 1);
  }
}

TEST(BlockSampler, TakesAllWhereThereAreFewAndFillsUp) {
  const SampledBlocks blocks = sample_blocks(kIds, kAnswers, 8, 6, {1, 2, 3});
  EXPECT_EQ(blocks.anchors, (std::vector<int64_t>{1, 2, 3, 7, 0, 0}));
  EXPECT_EQ(blocks.num_kept(), 4u);
  EXPECT_EQ(sample_blocks(kIds, std::vector<uint8_t>(11, 0), 8, 2, {}).num_kept(), 0u);
}

TEST(BlockSampler, DependsOnEveryPartOfItsKeyAndOnNothingElse) {
  const std::vector<uint8_t> mask(300, 1);
  const std::vector<int32_t> ids(300, 5);
  const auto anchors = [&](const SamplerKey& key) {
    return sample_blocks(ids, mask, 8, 10, key).anchors;
  };
  const auto first = anchors({1, 2, 3});
  EXPECT_EQ(anchors({1, 2, 3}), first);
  EXPECT_NE(anchors({2, 2, 3}), first);
  EXPECT_NE(anchors({1, 3, 3}), first);
  EXPECT_NE(anchors({1, 2, 4}), first);
}

// Each of 10 anchors is among 3 with probability 0.3: 5 standard deviations of the binomial.
TEST(BlockSampler, EveryAnchorIsAsLikely) {
  const std::vector<uint8_t> mask(11, 1);
  const auto trials = static_cast<uint32_t>(test::scaled(4000));
  std::map<int64_t, double> counts;
  for (uint32_t step = 0; step < trials; ++step) {
    for (const int64_t anchor : sample_blocks(kIds, mask, 8, 3, {9, step, 1}).anchors) {
      ++counts[anchor];
    }
  }
  EXPECT_EQ(counts.size(), 10u);
  const double deviation = std::sqrt(trials * 0.3 * 0.7);
  for (const auto& [anchor, count] : counts) {
    EXPECT_NEAR(count, trials * 0.3, 5 * deviation) << anchor;
  }
}

}  // namespace
}  // namespace ultraspeed::train
