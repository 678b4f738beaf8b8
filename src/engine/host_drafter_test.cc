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
  EXPECT_EQ(suffix_proposal({1, 2, 3, 9, 1, 2, 3}, 7), Tokens());  // three tokens may be chance
  EXPECT_EQ(suffix_proposal({1, 2, 3, 4, 9, 1, 2, 3, 4}, 7), Tokens{9});
  EXPECT_EQ(suffix_proposal({1, 2, 3, 4, 9, 1, 2, 3, 4}, 0), Tokens());
}

TEST(SuffixDrafter, ProposesMoreTheLongerTheMatch) {
  EXPECT_EQ(suffix_proposal({1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5}, 7), (Tokens{6, 1}));
  EXPECT_EQ(suffix_proposal({1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5}, 1), (Tokens{6}));
}

TEST(SuffixDrafter, GoesOnWithALoop) {
  EXPECT_EQ(suffix_proposal(Tokens(20, 4), 7), Tokens(7, 4));
  EXPECT_EQ(suffix_proposal({1, 2, 1, 2, 1, 2, 1, 2, 1}, 5), (Tokens{2, 1, 2, 1}));
}

TEST(SuffixDrafter, PrefersTheLongestMatchThenTheNewest) {
  EXPECT_EQ(suffix_proposal({8, 1, 2, 3, 50, 9, 1, 2, 3, 60, 8, 1, 2, 3}, 1), Tokens{50});
  EXPECT_EQ(suffix_proposal({7, 1, 2, 3, 4, 50, 9, 1, 2, 3, 4, 60, 8, 1, 2, 3, 4}, 1), Tokens{60});
}

TEST(SuffixDrafter, AsksForMoreWhereItWasWrong) {
  SuffixDrafter drafter;
  Tokens tokens = {1, 2, 3, 4, 9, 1, 2, 3, 4};
  EXPECT_EQ(proposal(drafter, tokens, 7), Tokens{9});
  EXPECT_EQ(drafter.needed_match(), 4u);
  tokens.insert(tokens.end(), {8, 1, 2, 3, 4});
  EXPECT_EQ(proposal(drafter, tokens, 7), Tokens());  // a match of 4
  EXPECT_EQ(drafter.needed_match(), 6u);
  tokens.insert(tokens.end(), {8, 1});
  EXPECT_EQ(proposal(drafter, tokens, 7), Tokens{2});  // of 6: 1, 2, 3, 4, 8, 1
  EXPECT_EQ(drafter.needed_match(), 6u);               // nothing was proposed in between
  for (uint32_t i = 0; i < 40; ++i) {                  // wrong again and again
    tokens.push_back(100);
    proposal(drafter, tokens, 7);
    tokens.push_back(200 + static_cast<int32_t>(i));
    proposal(drafter, tokens, 7);
  }
  EXPECT_LE(drafter.needed_match(), SuffixDrafter::kMaxMatch);
}

TEST(SuffixDrafter, AsksForLessWhereItWasRight) {
  SuffixDrafter drafter;
  Tokens tokens = {1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5};
  EXPECT_EQ(proposal(drafter, tokens, 7), (Tokens{6, 7}));
  tokens.insert(tokens.end(), {6, 70});
  EXPECT_EQ(proposal(drafter, tokens, 7), Tokens());
  EXPECT_EQ(drafter.needed_match(), 4u);  // right and wrong: as before
  tokens.insert(tokens.end(), {1, 2, 3, 4});
  EXPECT_EQ(proposal(drafter, tokens, 7), Tokens{5});
  tokens.insert(tokens.end(), {5, 60, 1, 2, 3});
  EXPECT_EQ(proposal(drafter, tokens, 7), Tokens{4});
  EXPECT_EQ(drafter.needed_match(), SuffixDrafter::kMinMatch);
}

// Cut by the columns of a step: what was verified was right.
TEST(SuffixDrafter, JudgesWhatHasCome) {
  SuffixDrafter drafter;
  Tokens tokens(20, 4);
  EXPECT_EQ(proposal(drafter, tokens, 7).size(), 7u);
  tokens.push_back(4);
  EXPECT_EQ(proposal(drafter, tokens, 7).size(), 7u);
  EXPECT_EQ(drafter.needed_match(), SuffixDrafter::kMinMatch);
  EXPECT_EQ(proposal(drafter, tokens, 7).size(), 7u);  // nothing new
  EXPECT_EQ(drafter.needed_match(), SuffixDrafter::kMinMatch);
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
      const uint32_t needed = drafter.needed_match();
      if (longest < needed) {
        EXPECT_TRUE(drafts.empty());
      } else if (std::ranges::count(tokens, tokens.back()) <= SuffixDrafter::kMaxCandidates) {
        EXPECT_EQ(drafts.size(), longest - needed + 1);
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
