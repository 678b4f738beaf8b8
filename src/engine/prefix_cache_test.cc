#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace ultraspeed::engine {
namespace {

using Tokens = std::vector<int32_t>;

Tokens counting(size_t size) {
  Tokens tokens(size);
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

PrefixSearch found(const HeldText& held, const Tokens& prompt, const PrefixRules& rules) {
  PrefixSearch search("", prompt, rules);
  search.look_at(3, held);
  return search;
}

TEST(PrefixSearch, TakesTheCommonBeginningButForTheLastToken) {
  const Tokens text = counting(10);
  const PrefixRules rules{100, 0};
  EXPECT_EQ(found({"", text, 10}, counting(20), rules).best()->num_positions, 10u);
  EXPECT_EQ(found({"", text, 10}, counting(20), rules).best()->slot, 3u);
  EXPECT_EQ(found({"", text, 10}, counting(10), rules).best()->num_positions, 9u);
  EXPECT_EQ(found({"", text, 10}, {0, 1, 2, 9, 4}, rules).best()->num_positions, 3u);
  EXPECT_FALSE(found({"", text, 10}, {5, 1}, rules).best());
  EXPECT_FALSE(found({"", text, 10}, {0}, rules).best());
}

TEST(PrefixSearch, AsksWhetherTheRingsStillHoldTheWindow) {
  const Tokens text = counting(30);
  const PrefixRules rules{8, 0};
  const auto fork_at = [](int32_t position) {
    Tokens prompt = counting(30);
    prompt[static_cast<size_t>(position)] = 99;
    return prompt;
  };
  EXPECT_EQ(found({"", text, 30}, fork_at(22), rules).best()->num_positions, 22u);
  EXPECT_FALSE(found({"", text, 30}, fork_at(21), rules).best());
  EXPECT_EQ(found({"", text, 30}, fork_at(21), rules).num_common(), 21u);
  EXPECT_FALSE(found({"", text, 31}, fork_at(22), rules).best()) << "a wrong draft was written";
}

TEST(PrefixSearch, LeavesWhatMtpHeadsHaveSeenTheNextTokensOf) {
  const Tokens text = counting(10);
  EXPECT_EQ(found({"", text, 10}, counting(20), {100, 3}).best()->num_positions, 7u);
  EXPECT_FALSE(found({"", text, 10}, {0, 1, 2, 99}, {100, 3}).best());
}

TEST(PrefixSearch, KeepsDomainsApart) {
  const Tokens text = counting(10);
  PrefixSearch search("one", text, {100, 0});
  search.look_at(0, {"other", text, 10});
  search.look_at(1, {"", text, 10});
  EXPECT_FALSE(search.best());
  EXPECT_EQ(search.num_common(), 0u);
  search.look_at(2, {"one", text, 10});
  EXPECT_EQ(search.best()->slot, 2u);
}

class PrefixCacheTest : public testing::Test {
 protected:
  void insert(uint32_t slot, const Tokens& tokens, uint32_t num_written, std::string domain = "") {
    KvPageTable pages(&pool_, 10);
    ASSERT_TRUE(pages.grow(static_cast<uint32_t>(tokens.size())));
    cache_.insert(slot, {std::move(domain), tokens, num_written, std::move(pages)});
  }
  std::vector<uint32_t> slots() const {
    std::vector<uint32_t> slots;
    for (uint32_t slot = 0; slot < 4; ++slot) {
      if (cache_.find(slot) != nullptr) slots.push_back(slot);
    }
    return slots;
  }

  KvPagePool pool_{10};
  PrefixCache cache_{4, {8, 0}};
};

TEST_F(PrefixCacheTest, ItsPagesAreAvailable) {
  insert(1, counting(25), 25);
  EXPECT_EQ(pool_.num_free(), 7u);
  EXPECT_EQ(pool_.num_available(), 10u);
  {
    KvPageTable session(&pool_, 10);
    session.share(cache_.find(1)->pages, 25);
    EXPECT_EQ(pool_.num_reclaimable(), 1u);
    cache_.clear();
    EXPECT_EQ(pool_.num_free(), 8u);
    EXPECT_EQ(pool_.num_reclaimable(), 0u);
  }
  EXPECT_EQ(pool_.num_free(), 10u);
}

TEST_F(PrefixCacheTest, EvictsWhatWasTouchedLongestAgo) {
  insert(0, {1, 2}, 2);
  insert(1, {3, 4}, 2);
  insert(2, {5, 6}, 2);
  cache_.touch(0);
  cache_.touch(3);
  EXPECT_TRUE(cache_.evict_oldest());
  EXPECT_EQ(slots(), (std::vector<uint32_t>{0, 2}));
  EXPECT_TRUE(cache_.evict_oldest(2));
  EXPECT_EQ(slots(), std::vector<uint32_t>{2});
  EXPECT_FALSE(cache_.evict_oldest(2));
  EXPECT_TRUE(cache_.evict_oldest());
  EXPECT_FALSE(cache_.evict_oldest());
  EXPECT_EQ(pool_.num_free(), 10u);
}

TEST_F(PrefixCacheTest, KeepsNothingTwice) {
  insert(0, counting(20), 20);
  insert(1, counting(20), 20);  // the same
  EXPECT_EQ(slots(), std::vector<uint32_t>{0});
  insert(2, counting(20), 20, "another domain");
  EXPECT_EQ(slots(), (std::vector<uint32_t>{0, 2}));
  insert(1, counting(28), 28);  // longer, but its rings have lost positions 12 to 19
  EXPECT_EQ(slots(), (std::vector<uint32_t>{0, 1, 2}));
  insert(3, counting(18), 20);  // less than slot 0 has
  EXPECT_EQ(slots(), (std::vector<uint32_t>{0, 1, 2}));
  cache_.clear();
  insert(0, counting(5), 5);
  insert(1, counting(8), 8);  // more in every way
  EXPECT_EQ(slots(), std::vector<uint32_t>{1});
}

TEST_F(PrefixCacheTest, SearchesAllSlots) {
  insert(0, {1, 2, 3}, 3);
  insert(1, {1, 2, 9, 9}, 4);
  const Tokens prompt = {1, 2, 9, 4, 5};
  PrefixSearch search("", prompt, {8, 0});
  cache_.search(&search);
  EXPECT_EQ(search.best()->slot, 1u);
  EXPECT_EQ(search.best()->num_positions, 3u);
}

using PrefixCacheDeathTest = PrefixCacheTest;

TEST_F(PrefixCacheDeathTest, ASlotHoldsOnePrefix) {
  insert(0, {1, 2, 3}, 3);
  EXPECT_DEATH(insert(0, {4}, 1), "slot 0 holds a prefix");
}

}  // namespace
}  // namespace ultraspeed::engine
