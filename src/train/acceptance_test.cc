// Walks worked out by hand.
#include "train/acceptance.h"

#include <gtest/gtest.h>

namespace ultraspeed::train {
namespace {

// An answer of 8 tokens at 1 to 8: anchors 1 to 7, blocks of 4.
const std::vector<uint8_t> kMask = {0, 1, 1, 1, 1, 1, 1, 1, 1, 0};

TEST(Acceptance, WrongDraftsGiveATokenACycle) {
  const Acceptance result = walk(kMask, std::vector<uint8_t>(21, 0), 4);
  EXPECT_EQ(result.num_cycles, 7u);
  EXPECT_EQ(result.num_tokens, 7u);
  EXPECT_EQ(result.accepted_length(), 1);
  EXPECT_EQ(result.accepted_places, (std::vector<uint64_t>{0, 0, 0}));
}

// From 1: 2, 3, 4 and the target's 5. From 5: 6, 7, 8, where the answer ends.
TEST(Acceptance, RightDraftsGiveABlockACycleUpToTheEnd) {
  const Acceptance result = walk(kMask, std::vector<uint8_t>(21, 1), 4);
  EXPECT_EQ(result.num_cycles, 2u);
  EXPECT_EQ(result.num_tokens, 7u);
  EXPECT_EQ(result.accepted_length(), 3.5);
  EXPECT_EQ(result.share(2), 1);
}

// From 1: right, wrong: 2, 3. From 3: wrong: 4. From 4: right, right, wrong: 5, 6, 7. From 7: a
// right draft, the last token.
TEST(Acceptance, EndsABlockWithItsFirstWrongDraft) {
  const std::vector<uint8_t> is_right = {1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 1,
                                         0, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const Acceptance result = walk(kMask, is_right, 4);
  EXPECT_EQ(result.num_cycles, 4u);
  EXPECT_EQ(result.num_tokens, 7u);
  EXPECT_EQ(result.accepted_places, (std::vector<uint64_t>{3, 1, 0}));
  EXPECT_EQ(result.share(0), 0.75);
}

// Every answer begins with its first token, wherever the last cycle of the one before ended.
TEST(Acceptance, WalksThroughEachAnswer) {
  const std::vector<uint8_t> mask = {1, 1, 0, 1, 1, 1, 0, 1};
  const Acceptance result = walk(mask, std::vector<uint8_t>(9, 1), 4);
  EXPECT_EQ(result.num_cycles, 2u);
  EXPECT_EQ(result.num_tokens, 3u);
  Acceptance sum = walk(kMask, std::vector<uint8_t>(21, 1), 4);
  sum.add(result);
  EXPECT_EQ(sum.num_cycles, 4u);
  EXPECT_EQ(sum.num_tokens, 10u);
  EXPECT_EQ(sum.accepted_places, (std::vector<uint64_t>{4, 3, 2}));
}

TEST(Acceptance, OfNothingIsZero) {
  const Acceptance result = walk(std::vector<uint8_t>{0, 1, 0}, {}, 8);
  EXPECT_EQ(result.accepted_length(), 0);
  EXPECT_EQ(result.share(3), 0);
}

}  // namespace
}  // namespace ultraspeed::train
