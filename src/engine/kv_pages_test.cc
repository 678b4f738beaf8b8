#include "engine/kv_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

namespace ultraspeed::engine {
namespace {

TEST(KvPagePool, HandsOutEveryPageOnce) {
  KvPagePool pool(3);
  std::set<uint32_t> pages;
  for (int i = 0; i < 3; ++i) pages.insert(pool.acquire().value());
  EXPECT_EQ(pages, (std::set<uint32_t>{0, 1, 2}));
  EXPECT_EQ(pool.num_free(), 0u);
  EXPECT_FALSE(pool.acquire());
  pool.release(1);
  EXPECT_EQ(pool.acquire(), 1u);
  EXPECT_FALSE(KvPagePool(0).acquire());
}

TEST(KvPagePool, TheLastReferenceFreesAPage) {
  KvPagePool pool(1);
  const uint32_t page = pool.acquire().value();
  pool.retain(page);
  pool.release(page);
  EXPECT_EQ(pool.num_free(), 0u);
  pool.release(page);
  EXPECT_EQ(pool.num_free(), 1u);
}

TEST(KvPagePool, APageThatOnlyPrefixesHoldIsAvailable) {
  KvPagePool pool(2);
  const uint32_t page = pool.acquire().value();
  pool.mark_cached(page);
  EXPECT_EQ(pool.num_reclaimable(), 1u);
  EXPECT_EQ(pool.num_available(), 2u);
  pool.retain(page);  // a session's
  EXPECT_EQ(pool.num_available(), 1u);
  pool.retain(page);
  pool.mark_cached(page);  // another prefix's
  EXPECT_EQ(pool.num_available(), 1u);
  pool.release(page);  // the session's
  EXPECT_EQ(pool.num_available(), 2u);
  pool.unmark_cached(page);
  pool.release(page);
  EXPECT_EQ(pool.num_reclaimable(), 1u);
  pool.unmark_cached(page);
  pool.release(page);
  EXPECT_EQ(pool.num_reclaimable(), 0u);
  EXPECT_EQ(pool.num_free(), 2u);
}

TEST(KvPagePoolDeathTest, FreePagesCannotBeReleasedOrRetained) {
  KvPagePool pool(2);
  const uint32_t page = pool.acquire().value();
  pool.release(page);
  EXPECT_DEATH(pool.release(page), "KV page 0 is not in use");
  EXPECT_DEATH(pool.retain(page), "KV page 0 is not in use");
  EXPECT_DEATH(pool.release(2), "KV page 2 is not in use");
}

TEST(KvPageTable, GrowsByWholePagesAndGivesThemBack) {
  KvPagePool pool(4);
  {
    KvPageTable table(&pool, 10);
    EXPECT_TRUE(table.grow(0));
    EXPECT_EQ(table.pages().size(), 0u);
    EXPECT_TRUE(table.grow(1));
    EXPECT_TRUE(table.grow(10));
    EXPECT_EQ(table.pages().size(), 1u);
    EXPECT_TRUE(table.grow(11));
    EXPECT_EQ(table.pages().size(), 2u);
    EXPECT_TRUE(table.grow(5));  // never shrinks
    EXPECT_EQ(table.pages().size(), 2u);
    EXPECT_EQ(pool.num_free(), 2u);
  }
  EXPECT_EQ(pool.num_free(), 4u);
}

TEST(KvPageTable, ShrinksToThePagesThatPositionsNeed) {
  KvPagePool pool(4);
  KvPageTable table(&pool, 10);
  ASSERT_TRUE(table.grow(31));
  const uint32_t first = table.pages()[0];
  table.shrink(21);
  EXPECT_EQ(table.pages().size(), 3u);
  table.shrink(20);
  EXPECT_EQ(table.pages().size(), 2u);
  EXPECT_EQ(pool.num_free(), 2u);
  table.shrink(40);  // never grows
  EXPECT_EQ(table.pages().size(), 2u);
  EXPECT_EQ(table.pages()[0], first);
}

TEST(KvPageTable, SharesWholePages) {
  KvPagePool pool(5);
  KvPageTable first(&pool, 10);
  ASSERT_TRUE(first.grow(35));
  {
    KvPageTable second(&pool, 10);
    second.share(first, 29);
    EXPECT_EQ(second.pages().size(), 2u);
    EXPECT_TRUE(std::ranges::equal(second.pages(), first.pages().first(2)));
    EXPECT_EQ(pool.num_free(), 1u);
    first.clear();
    EXPECT_EQ(pool.num_free(), 3u);
    ASSERT_TRUE(second.grow(21));
    EXPECT_EQ(pool.num_free(), 2u);
  }
  EXPECT_EQ(pool.num_free(), 5u);
  KvPageTable unpaged(&pool, 0);
  unpaged.share(KvPageTable(&pool, 0), 100);
  EXPECT_TRUE(unpaged.pages().empty());
}

TEST(KvPageTable, TakesNothingWhenNotAllFits) {
  KvPagePool pool(3);
  KvPageTable first(&pool, 10);
  KvPageTable second(&pool, 10);
  ASSERT_TRUE(first.grow(20));
  EXPECT_FALSE(second.grow(11));
  EXPECT_EQ(second.pages().size(), 0u);
  EXPECT_EQ(pool.num_free(), 1u);
  first.clear();
  EXPECT_TRUE(second.grow(30));
}

TEST(KvPageTable, AMovedTableOwnsThePages) {
  KvPagePool pool(2);
  KvPageTable first(&pool, 10);
  ASSERT_TRUE(first.grow(20));
  {
    const KvPageTable second = std::move(first);
    EXPECT_EQ(second.pages().size(), 2u);
    EXPECT_EQ(pool.num_free(), 0u);
  }
  EXPECT_EQ(pool.num_free(), 2u);
}

TEST(KvPageTable, NeedsNoPagesWithoutAPagedCache) {
  KvPagePool pool(0);
  KvPageTable table(&pool, 0);
  EXPECT_TRUE(table.grow(1'000'000));
  EXPECT_TRUE(table.pages().empty());
  EXPECT_EQ(num_pages_for(5, 0), 0u);
  EXPECT_EQ(num_pages_for(0xffffffffu, 1), 0xffffffffu);
}

}  // namespace
}  // namespace ultraspeed::engine
