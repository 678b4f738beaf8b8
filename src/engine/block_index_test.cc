#include "engine/block_index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "engine/engine_harness.h"
#include "support/scale.h"

namespace ultraspeed::engine {
namespace {

HeldText held_text(uint64_t text_id, std::span<const int32_t> tokens,
                   std::string_view domain = "") {
  return {domain, tokens, static_cast<uint32_t>(tokens.size()), text_id};
}

TEST(BlockIndex, NamesABlockByWhatIsBeforeIt) {
  const std::vector<int32_t> tokens = prompt_of(4);
  const BlockHash first = block_hash("", {}, tokens);
  EXPECT_EQ(first, block_hash("", {}, tokens));
  EXPECT_EQ(first, 0xf6df0c9dcf8036f2) << "replicas of other versions know another name";
  EXPECT_EQ(first >> 63, 1u);
  EXPECT_NE(first, block_hash("salt", {}, tokens));
  EXPECT_NE(first, block_hash("", first, tokens));
  EXPECT_NE(first, block_hash("", {}, prompt_of(4, 2)));
  EXPECT_EQ(block_hash("", first, tokens), block_hash("salt", first, tokens))
      << "the parent has it";
}

TEST(BlockIndex, TellsWholeBlocksAndWhatComesBeforeThem) {
  BlockIndex index(2, 4);
  const std::vector<int32_t> tokens = prompt_of(13);
  index.hold(0, held_text(7, std::span(tokens).first(6)));
  const BlockHash first = block_hash("", {}, std::span(tokens).first(4));
  const BlockHash second = block_hash("", first, std::span(tokens).subspan(4, 4));
  const BlockHash third = block_hash("", second, std::span(tokens).subspan(8, 4));
  EXPECT_EQ(index.take_change(), (CacheChange{.stored = {{"", {}, {first}, prompt_of(4)}}}));
  EXPECT_TRUE(index.take_change().is_empty());
  index.hold(0, held_text(7, tokens));
  EXPECT_EQ(index.take_change(),
            (CacheChange{.stored = {{"", first, {second, third}, prompt_of(8, 5)}}}));
  index.hold(0, held_text(7, std::span(tokens).first(7)));
  EXPECT_EQ(index.take_change(), (CacheChange{.removed = {third, second}}));
  index.hold(0, {});
  EXPECT_EQ(index.take_change(), CacheChange{.is_cleared = true});
  EXPECT_TRUE(index.take_change().is_empty());
}

TEST(BlockIndex, CountsASharedBlockOnce) {
  BlockIndex index(2, 4);
  const std::vector<int32_t> tokens = prompt_of(8);
  index.hold(0, held_text(1, tokens));
  EXPECT_EQ(index.take_change().stored.size(), 1u);
  index.hold(1, held_text(2, tokens));
  EXPECT_TRUE(index.take_change().is_empty());
  index.hold(0, {});
  EXPECT_TRUE(index.take_change().is_empty());
  // It goes on in another slot, of which the index learns first.
  index.hold(0, held_text(2, tokens));
  index.hold(1, held_text(3, prompt_of(3)));
  EXPECT_TRUE(index.take_change().is_empty());
  // The same text of another domain is another one.
  index.hold(1, held_text(4, tokens, "other"));
  const CacheChange change = index.take_change();
  ASSERT_EQ(change.stored.size(), 1u);
  EXPECT_EQ(change.stored[0].domain, "other");
  EXPECT_EQ(change.stored[0].hashes.size(), 2u);
}

// What a router makes of changes: the texts that end with a block, which it knows from the blocks'
// tokens and parents alone.
class Router final : public CacheObserver {
 public:
  using Text = BlockText;

  void on_change(CacheChange change) override {
    ++num_changes;
    if (change.is_cleared) {
      EXPECT_TRUE(change.stored.empty() && change.removed.empty());
      texts_.clear();
    }
    for (const StoredBlocks& stored : change.stored) store(stored);
    for (const BlockHash hash : change.removed) {
      EXPECT_EQ(texts_.erase(hash), 1u) << "removed, but not held";
      ++num_removed;
    }
  }

  std::set<Text> texts() const {
    std::set<Text> texts;
    for (const auto& [hash, text] : texts_) {
      EXPECT_TRUE(texts.insert(text).second) << "two names of one block";
    }
    return texts;
  }

  size_t num_changes = 0;
  size_t num_removed = 0;

 private:
  void store(const StoredBlocks& stored) {
    ASSERT_FALSE(stored.hashes.empty());
    Text text{stored.domain, {}};
    if (stored.parent) {
      ASSERT_TRUE(texts_.contains(*stored.parent)) << "a parent that is not held";
      text = texts_.at(*stored.parent);
    }
    const size_t size = stored.tokens.size() / stored.hashes.size();
    ASSERT_EQ(size * stored.hashes.size(), stored.tokens.size());
    for (size_t i = 0; i < stored.hashes.size(); ++i) {
      const auto tokens = std::span(stored.tokens).subspan(i * size, size);
      text.second.insert(text.second.end(), tokens.begin(), tokens.end());
      ASSERT_TRUE(texts_.emplace(stored.hashes[i], text).second) << "stored twice";
    }
  }

  std::map<BlockHash, Text> texts_;
};

// Starts, forks and cancels sessions, and steps, with failures between.
class RandomLoad {
 public:
  RandomLoad(const HarnessOptions& options, uint32_t seed)
      : options_(options), harness_(options), random_(seed) {
    harness_.engine->observe_caches(&router);
  }

  void run(int num_steps) {
    for (int i = 0; i < num_steps && !testing::Test::HasFailure(); ++i) {
      const uint32_t choice = below(10);
      if (choice < 3) start();
      if (choice == 3 && !ids_.empty()) {
        const auto id = harness_.engine->fork(ids_.back(), random_());
        if (id) ids_.push_back(*id);
      }
      if (choice == 4 && !ids_.empty()) harness_.engine->cancel(ids_[below(ids_.size())]);
      if (below(50) == 0) {
        harness_.executor->next_error = Error{ErrorCode::kUnsupported, "injected"};
      }
      if (!harness_.step()) ++num_failures;
      check();
    }
  }

  Router router;
  size_t num_failures = 0;
  size_t most_blocks = 0;

 private:
  uint32_t below(size_t limit) { return static_cast<uint32_t>(random_() % limit); }

  // Goes on from an earlier prompt, most often.
  void start() {
    std::vector<int32_t> prompt;
    if (!prompts_.empty() && below(3) > 0) prompt = prompts_[below(prompts_.size())];
    prompt.resize(below(prompt.size() + 1));
    for (uint32_t i = 1 + below(30); i > 0; --i) {
      prompt.push_back(static_cast<int32_t>(below(FakeExecutor::kVocabSize)));
    }
    prompt.resize(std::min<size_t>(prompt.size(), options_.max_context - 1));
    GenerationParams params;
    params.max_tokens = 1 + below(20);
    params.cache_domain = below(4) == 0 ? "other" : "";
    const auto id = harness_.engine->start(prompt, params);
    if (id) ids_.push_back(*id);
    prompts_.push_back(std::move(prompt));
  }

  void check() {
    const auto held = blocks_held(*harness_.engine, options_.page_positions);
    EXPECT_EQ(router.texts(), held);
    most_blocks = std::max(most_blocks, held.size());
  }

  HarnessOptions options_;
  Harness harness_;
  std::mt19937_64 random_;
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<SessionId> ids_;
};

TEST(BlockIndex, ChangesGiveWhatTheEngineHolds) {
  for (const DrafterKind kind : {DrafterKind::kNone, DrafterKind::kRandom, DrafterKind::kMtp}) {
    for (const uint32_t num_pages : {33u, 200u}) {
      RandomLoad load({.decode_width = 8,
                       .max_sessions = 4,
                       .num_kv_pages = num_pages,
                       .drafter = {kind, 1},
                       .block_size = 4,
                       .num_cached_prefixes = 6},
                      num_pages);
      load.run(test::scaled(2000));
      EXPECT_GT(load.router.num_changes, test::at_least(300u));
      EXPECT_GT(load.router.num_removed, test::at_least(300u));
      EXPECT_GT(load.num_failures, test::at_least(1u));
      EXPECT_GT(load.most_blocks, 20u);
    }
  }
}

TEST(BlockIndex, AnEngineWithoutPagesOrPrefixesTellsNothing) {
  for (const uint32_t page_positions : {0u, 4u}) {
    HarnessOptions options{.page_positions = page_positions};
    options.num_cached_prefixes = page_positions == 0 ? 4 : 0;
    Harness harness(options);
    Router router;
    harness.engine->observe_caches(&router);
    ASSERT_TRUE(harness.engine->start(prompt_of(20), {}));
    ASSERT_TRUE(harness.run_until_idle());
    EXPECT_EQ(router.num_changes, 0u);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
