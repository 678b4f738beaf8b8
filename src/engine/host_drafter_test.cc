// What each drafter proposes.
#include "engine/host_drafter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "engine/suffix_drafter.h"
#include "support/scale.h"

namespace ultraspeed::engine {
namespace {

using Tokens = std::vector<int32_t>;

Tokens proposal(HostDrafter& drafter, const Tokens& tokens, uint32_t limit) {
  Tokens drafts = {-5};  // what is there already stays
  drafter.propose(tokens, limit, &drafts);
  EXPECT_EQ(drafts.front(), -5);
  drafts.erase(drafts.begin());
  EXPECT_LE(drafts.size(), limit);
  return drafts;
}

Tokens suffix_proposal(const Tokens& tokens, uint32_t limit) {
  SuffixDrafter drafter;
  return proposal(drafter, tokens, limit);
}

TEST(HostDrafter, NoneProposesNothing) {
  const auto drafter = make_host_drafter({}, {}, 1, 97);
  EXPECT_EQ(proposal(*drafter, {1, 1, 1, 1, 1, 1}, 7), Tokens());
}

TEST(HostDrafter, RandomProposesIdsOfTheVocabulary) {
  const auto drafter = make_host_drafter({.kind = DrafterKind::kRandom}, {}, 1, 97);
  const Tokens drafts = proposal(*drafter, {1, 2}, 1000);
  EXPECT_EQ(drafts.size(), 1000u);
  EXPECT_TRUE(std::ranges::all_of(drafts, [](int32_t id) { return id >= 0 && id < 97; }));
  EXPECT_NE(drafts, proposal(*drafter, {1, 2, 3}, 1000));
}

TEST(HostDrafter, ReplayIsRightNMinusOneTimesThenWrong) {
  GenerationParams params;
  params.expected_output = {10, 11, 12, 13, 96};
  const auto replay = [&](uint32_t tokens_per_cycle) {
    return make_host_drafter({.kind = DrafterKind::kReplay, .tokens_per_cycle = tokens_per_cycle},
                             params, 2, 97);
  };
  EXPECT_EQ(proposal(*replay(3), {1, 2, 10}, 7), (Tokens{11, 12, 14}));
  EXPECT_EQ(proposal(*replay(1), {1, 2, 10}, 7), Tokens{12});
  EXPECT_EQ(proposal(*replay(1), {1, 2, 10, 11, 12, 13}, 7), Tokens{0});
  EXPECT_EQ(proposal(*replay(3), {1, 2, 10}, 2), (Tokens{11, 12}));
  EXPECT_EQ(proposal(*replay(3), {1, 2, 10, 11, 12}, 7), (Tokens{13, 96}));
  EXPECT_EQ(proposal(*replay(3), {1, 2, 10, 11, 12, 13, 96}, 7), Tokens());
  EXPECT_EQ(proposal(*replay(3), {1, 2, 10, 11, 12, 13, 96, 4, 5}, 7), Tokens());
  EXPECT_EQ(proposal(*replay(3), {1, 2, 10}, 0), Tokens());
}

TEST(SuffixDrafter, NeedsARepetition) {
  EXPECT_EQ(suffix_proposal({}, 7), Tokens());
  EXPECT_EQ(suffix_proposal({1, 2, 3}, 7), Tokens());
  EXPECT_EQ(suffix_proposal({1, 2, 3, 4, 5, 6}, 7), Tokens());
  EXPECT_EQ(suffix_proposal({1, 2, 3, 9, 2, 3}, 7), Tokens());  // two tokens are chance
  EXPECT_EQ(suffix_proposal({1, 2, 3, 9, 1, 2, 3}, 7), Tokens{9});
  EXPECT_EQ(suffix_proposal({1, 2, 3, 9, 1, 2, 3}, 0), Tokens());
}

TEST(SuffixDrafter, ProposesMoreTheLongerTheMatch) {
  EXPECT_EQ(suffix_proposal({1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5}, 7), (Tokens{6, 1, 2}));
  EXPECT_EQ(suffix_proposal({1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5}, 2), (Tokens{6, 1}));
}

TEST(SuffixDrafter, GoesOnWithALoop) {
  EXPECT_EQ(suffix_proposal(Tokens(20, 4), 7), Tokens(7, 4));
  EXPECT_EQ(suffix_proposal({1, 2, 1, 2, 1, 2, 1, 2, 1}, 5), (Tokens{2, 1, 2, 1, 2}));
}

TEST(SuffixDrafter, PrefersTheLongestMatchThenTheNewest) {
  EXPECT_EQ(suffix_proposal({8, 1, 2, 3, 50, 9, 1, 2, 3, 60, 8, 1, 2, 3}, 1), Tokens{50});
  EXPECT_EQ(suffix_proposal({7, 1, 2, 3, 50, 9, 1, 2, 3, 60, 8, 1, 2, 3}, 1), Tokens{60});
}

// The longest match of a short text, by looking everywhere.
TEST(SuffixDrafter, EqualsASearchOfTheWholeText) {
  std::mt19937 random(5);
  for (int round = 0; round < test::scaled(200); ++round) {
    SuffixDrafter drafter;
    Tokens tokens;
    while (tokens.size() < 24) {
      for (auto i = 1 + random() % 3; i > 0; --i) {
        tokens.push_back(static_cast<int32_t>(random() % 3));
      }
      const auto size = static_cast<uint32_t>(tokens.size());
      uint32_t longest = 0;
      for (uint32_t end = 1; end < size; ++end) {
        uint32_t length = 0;
        while (length < end && tokens[end - 1 - length] == tokens[size - 1 - length]) ++length;
        longest = std::max(longest, length);
      }
      const Tokens drafts = proposal(drafter, tokens, 100);
      if (longest < SuffixDrafter::kMinMatch) {
        EXPECT_TRUE(drafts.empty());
      } else if (std::ranges::count(tokens, tokens.back()) <= SuffixDrafter::kMaxCandidates) {
        EXPECT_EQ(drafts.size(), longest - 2);
      }
      // The match and the drafts occur in the text, or go on with a loop.
      if (drafts.empty()) continue;
      Tokens all = tokens;
      all.insert(all.end(), drafts.begin(), drafts.end());
      const Tokens needle(all.end() - static_cast<ptrdiff_t>(drafts.size()) - 3, all.end());
      EXPECT_NE(std::search(all.begin(), all.end(), needle.begin(), needle.end()),
                all.end() - static_cast<ptrdiff_t>(needle.size()));
    }
  }
}

}  // namespace
}  // namespace ultraspeed::engine
