// The heap against the definition of BPE, on random rules.
#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>

#include "support/scale.h"
#include "text/tokenizer_test_support.h"

namespace ultraspeed::text {
namespace {

using Ids = std::vector<int32_t>;

std::array<int32_t, 256> identity_bytes() {
  std::array<int32_t, 256> tokens;
  for (size_t byte = 0; byte < tokens.size(); ++byte) tokens[byte] = static_cast<int32_t>(byte);
  return tokens;
}

Ids encode(const Bpe& bpe, std::string_view word) {
  Bpe::Scratch scratch;
  Ids ids;
  bpe.encode(word, scratch, ids);
  return ids;
}

// Merges the leftmost pair of lowest rank until there is none.
Ids encode_by_definition(const std::vector<BpeMerge>& merges, std::string_view word) {
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    ranks[{merges[rank].left, merges[rank].right}] = rank;
  }
  Ids ids;
  for (const char byte : word) ids.push_back(static_cast<uint8_t>(byte));
  for (;;) {
    size_t best = merges.size();
    size_t position = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found == ranks.end() || found->second >= best) continue;
      best = found->second;
      position = i;
    }
    if (best == merges.size()) return ids;
    ids[position] = merges[best].result;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(position) + 1);
  }
}

// Rules over tokens of the letters a to d, as training makes them: each joins two known tokens.
std::vector<BpeMerge> random_merges(RandomText& random, uint32_t count) {
  std::vector<std::string> spellings;
  std::map<std::string, int32_t> ids;
  for (const char letter : {'a', 'b', 'c', 'd'}) {
    spellings.emplace_back(1, letter);
    ids[spellings.back()] = letter;
  }
  std::vector<BpeMerge> merges;
  for (uint32_t i = 0; i < count; ++i) {
    const std::string left = spellings[random.below(static_cast<uint32_t>(spellings.size()))];
    const std::string right = spellings[random.below(static_cast<uint32_t>(spellings.size()))];
    const auto next_id = static_cast<int32_t>(256 + i);
    const auto [result, is_new] = ids.emplace(left + right, next_id);
    if (is_new) spellings.push_back(left + right);
    merges.push_back({ids.at(left), ids.at(right), result->second});
  }
  return merges;
}

TEST(Bpe, AgreesWithItsDefinition) {
  RandomText random(31);
  for (int i = 0; i < test::scaled(2000); ++i) {
    const std::vector<BpeMerge> merges = random_merges(random, random.below(40));
    const Bpe bpe(identity_bytes(), merges);
    for (int j = 0; j < 10; ++j) {
      std::string word;
      for (uint32_t n = random.below(30); n > 0; --n) {
        word += static_cast<char>('a' + static_cast<int>(random.below(4)));
      }
      ASSERT_EQ(encode(bpe, word), encode_by_definition(merges, word)) << word;
    }
  }
}

TEST(Bpe, MergesTheLowestRankThenTheLeftmost) {
  const std::vector<BpeMerge> merges = {{'b', 'c', 256}, {'a', 'b', 257}, {'a', 'a', 258}};
  const Bpe bpe(identity_bytes(), merges);
  EXPECT_EQ(encode(bpe, "abc"), (Ids{'a', 256}));
  EXPECT_EQ(encode(bpe, "ab"), Ids{257});
  EXPECT_EQ(encode(bpe, "aaa"), (Ids{258, 'a'}));
  EXPECT_EQ(encode(bpe, ""), Ids{});
  EXPECT_EQ(encode(bpe, "\xFF"), Ids{255});
}

TEST(Bpe, OfEqualPairsTheLastRuleCounts) {
  const std::vector<BpeMerge> merges = {{'a', 'b', 256}, {'b', 'c', 257}, {'a', 'b', 256}};
  EXPECT_EQ(encode(Bpe(identity_bytes(), merges), "abc"), (Ids{'a', 257}));
}

TEST(Bpe, RememberedWordsStayTheSame) {
  RandomText random(32);
  const std::vector<BpeMerge> merges = random_merges(random, 30);
  const Bpe bpe(identity_bytes(), merges);
  Bpe::Scratch scratch;
  for (int i = 0; i < 3; ++i) {
    for (const std::string_view word : {"abcd", "aabb", "dcba", "abcd"}) {
      Ids ids;
      bpe.encode(word, scratch, ids);
      EXPECT_EQ(ids, encode_by_definition(merges, word));
    }
  }
}

TEST(BpeDeathTest, EveryByteOfAWordNeedsAToken) {
  std::array<int32_t, 256> bytes = identity_bytes();
  bytes['x'] = Bpe::kNoToken;
  const Bpe bpe(bytes, {});
  EXPECT_DEATH(encode(bpe, "axb"), "byte 120");
}

}  // namespace
}  // namespace ultraspeed::text
