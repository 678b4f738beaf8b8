// What is kept of responses, in which order it is forgotten, and what can be continued.
#include "server/response_store.h"

#include <gtest/gtest.h>

#include <chrono>

namespace ultraspeed::server {
namespace {

StoredResponse stored(const std::string& id, const std::string& previous, size_t bytes = 100) {
  return {id, previous, {{id + "_in", "1"}}, {{id + "_out", "2"}}, std::string(bytes, 'x')};
}

std::string ids(const std::optional<std::vector<StoredItem>>& items) {
  if (!items) return "nothing";
  std::string all;
  for (const StoredItem& item : *items) all += item.id + " ";
  return all;
}

TEST(ResponseStoreTest, ConversationsAreChainsThatFork) {
  ResponseStore store(1 << 20);
  store.put(stored("a", ""));
  store.put(stored("b", "a"));
  store.put(stored("c", "a"));
  store.put(stored("d", "c"));
  EXPECT_EQ(ids(store.conversation("a")), "a_in a_out ");
  EXPECT_EQ(ids(store.conversation("b")), "a_in a_out b_in b_out ");
  EXPECT_EQ(ids(store.conversation("d")), "a_in a_out c_in c_out d_in d_out ");
  EXPECT_EQ(ids(store.conversation("e")), "nothing");
  EXPECT_TRUE(store.erase("c"));
  EXPECT_FALSE(store.erase("c"));
  EXPECT_EQ(ids(store.conversation("d")), "nothing");
  EXPECT_EQ(ids(store.conversation("b")), "a_in a_out b_in b_out ");
}

TEST(ResponseStoreTest, FindsItems) {
  ResponseStore store(1 << 20);
  store.put(stored("a", ""));
  EXPECT_EQ(store.find("a")->json.size(), 100U);
  EXPECT_EQ(store.find_item("a_in")->json, "1");
  EXPECT_EQ(store.find_item("a_out")->json, "2");
  store.erase("a");
  EXPECT_FALSE(store.find("a") || store.find_item("a_in") || store.find_item("a_out"));
}

TEST(ResponseStoreTest, ItemsOfSeveralRequestsSurviveOneOfThem) {
  ResponseStore store(1 << 20);
  for (const char* first : {"a", "b"}) {
    for (const char* id : {"a", "b"}) store.put({id, "", {{"same", id}}, {}, "{}"});
    const std::string other = first == std::string("a") ? "b" : "a";
    store.erase(first);
    ASSERT_TRUE(store.find_item("same")) << first;
    EXPECT_EQ(store.find_item("same")->json, other);
    store.erase(other);
    EXPECT_FALSE(store.find_item("same"));
  }
}

TEST(ResponseStoreTest, WhatIsOfAConnectionIsItsAlone) {
  ResponseStore store(1 << 20);
  StoredResponse local = stored("b", "a");
  local.connection = 7;
  store.put(stored("a", ""));
  store.put(local);
  EXPECT_EQ(ids(store.conversation("b", 7)), "a_in a_out b_in b_out ");
  EXPECT_EQ(ids(store.conversation("a", 7)), "a_in a_out ");
  EXPECT_TRUE(store.find_item("b_out", 7));
  for (const ConnectionId other : {kNoConnection, ConnectionId{8}}) {
    EXPECT_EQ(ids(store.conversation("b", other)), "nothing");
    EXPECT_FALSE(store.find_item("b_out", other));
  }
  EXPECT_FALSE(store.find("b"));
  EXPECT_FALSE(store.erase("b"));
  store.forget(8);
  EXPECT_TRUE(store.conversation("b", 7));
  store.forget(7);
  EXPECT_FALSE(store.conversation("b", 7) || store.find_item("b_out", 7));
  EXPECT_TRUE(store.find("a"));
}

TEST(ResponseStoreTest, ForgetsWhatWasNotUsed) {
  ResponseStore store(5 * 1000);
  store.put(stored("a", ""));
  store.put(stored("b", ""));
  store.put(stored("c", ""));
  store.put(stored("d", "a"));
  store.put(stored("e", ""));
  EXPECT_TRUE(store.conversation("d"));  // uses its begin, too
  store.put(stored("f", ""));
  EXPECT_FALSE(store.find("b"));
  EXPECT_TRUE(store.find("c"));
  EXPECT_EQ(ids(store.conversation("d")), "a_in a_out d_in d_out ");
  store.put(stored("huge", "", 5000));
  EXPECT_FALSE(store.find("huge"));
  EXPECT_TRUE(store.find("f"));
  store.set_max_bytes(1500);
  EXPECT_FALSE(store.find("d"));
  EXPECT_TRUE(store.find("f"));
}

// A client chooses the ids of its items.
TEST(ResponseStoreTest, ManyItemsOfOneNameGoAtOnce) {
  ResponseStore store(100 << 20);
  StoredResponse many = stored("a", "");
  for (int i = 0; i < 50'000; ++i) many.input.push_back({"same", "1"});
  store.put(std::move(many));
  EXPECT_TRUE(store.find_item("same"));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(store.erase("a"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));  // it took ten
  EXPECT_FALSE(store.find_item("same"));
}

TEST(ResponseStoreTest, ConversationsAreForgottenFromTheirEnds) {
  ResponseStore store(3 * 1000);
  store.put(stored("a", ""));
  store.put(stored("b", "a"));
  EXPECT_TRUE(store.conversation("b"));
  store.put(stored("x", ""));
  store.put(stored("y", ""));
  EXPECT_FALSE(store.find("b"));
  EXPECT_TRUE(store.conversation("a"));
}

}  // namespace
}  // namespace ultraspeed::server
