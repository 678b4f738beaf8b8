// What the engine makes of its options, and which it refuses.
#include "engine/settings.h"

#include <gtest/gtest.h>

#include "engine/fake_executor.h"

namespace ultraspeed::engine {
namespace {

EngineOptions options_with(uint32_t max_context, uint32_t max_sessions, uint32_t num_kv_pages) {
  EngineOptions options;
  options.max_context = max_context;
  options.max_sessions = max_sessions;
  options.num_kv_pages = num_kv_pages;
  return options;
}

TEST(Settings, ContextIsTheModelsUpToADefault) {
  EXPECT_EQ(choose_max_context({}, 1'000'000).value(), 8192u);
  EXPECT_EQ(choose_max_context({}, 2048).value(), 2048u);
  EXPECT_EQ(choose_max_context(options_with(9000, 1, 0), 9000).value(), 9000u);
  EXPECT_EQ(choose_max_context(options_with(9001, 1, 0), 9000).value(), 9001u);
  const auto longest = choose_max_context(options_with((1U << 28) + 1, 1, 0), 9000);
  ASSERT_FALSE(longest);
  EXPECT_EQ(longest.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(longest.error().message, "max_context is 268435457, expected 2 to 268435456");
  EXPECT_FALSE(choose_max_context(options_with(1, 1, 0), 9000));
}

TEST(Settings, PagesAreEnoughForAllSessionsUnlessGiven) {
  const auto program = FakeExecutor::make_programs(1, 1, 10)[0];
  const auto all = choose_cache_limits(options_with(0, 3, 0), 101, program);
  EXPECT_EQ(all.value().num_sequences, 3u);
  EXPECT_EQ(all.value().num_kv_pages, 33u);
  EXPECT_EQ(choose_cache_limits(options_with(0, 3, 11), 101, program).value().num_kv_pages, 11u);
  const auto few = choose_cache_limits(options_with(0, 3, 10), 101, program);
  ASSERT_FALSE(few);
  EXPECT_EQ(few.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(few.error().message.find("num_kv_pages is 10, but one session of max_context 101 needs "
                                     "11 pages of 10 positions"),
            std::string::npos);
  EXPECT_FALSE(choose_cache_limits(options_with(0, 0, 0), 101, program));
  EXPECT_FALSE(choose_cache_limits(options_with(0, 0xffffffff, 0), 101, program));
}

TEST(Settings, ABlockFitsADecodeStep) {
  const auto check = [](uint32_t block_size, DrafterKind kind, uint32_t tokens_per_cycle) {
    EngineOptions options;  // decode width 8
    options.block_size = block_size;
    options.drafter = {kind, tokens_per_cycle};
    const Status status = check_drafter(options, 3);
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(check(1, DrafterKind::kSuffix, 1), "");
  EXPECT_EQ(check(8, DrafterKind::kReplay, 8), "");
  EXPECT_EQ(check(9, DrafterKind::kNone, 1), "");  // there are no drafts
  EXPECT_EQ(check(0, DrafterKind::kSuffix, 1),
            "block_size is 0, expected 1 to 8, the columns of a decode step");
  EXPECT_EQ(check(9, DrafterKind::kSuffix, 1),
            "block_size is 9, expected 1 to 8, the columns of a decode step");
  EXPECT_EQ(check(4, DrafterKind::kReplay, 5),
            "replay:5 is impossible, expected 1 to 4, the tokens of a block");
  EXPECT_NE(check(4, DrafterKind::kReplay, 0), "");
  EXPECT_EQ(check(4, DrafterKind::kRandom, 5), "");
  EXPECT_EQ(check(4, DrafterKind::kMtp, 1), "");
  EXPECT_EQ(check(5, DrafterKind::kMtp, 1),
            "block_size is 5, expected 1 to 4: 3 MTP layers propose a token each");
  EngineOptions narrow{.prefill_width = 2, .drafter = {DrafterKind::kMtp, 1}, .block_size = 4};
  EXPECT_EQ(check_drafter(narrow, 3).error().message,
            "prefill_width is 2, expected at least 3, the MTP layers");
}

TEST(Settings, ModelsWithoutPagedCacheNeedNoPages) {
  const auto program = FakeExecutor::make_programs(1, 1, 0)[0];
  EXPECT_EQ(page_positions_of(program), 0u);
  EXPECT_EQ(choose_cache_limits(options_with(0, 3, 0), 101, program).value().num_kv_pages, 0u);
}

TEST(Settings, MemoryIsCountedPerPart) {
  auto programs = FakeExecutor::make_programs(1, 1, 10);  // 32 bytes a position in both caches
  program::WeightDecl& experts = programs[0].weights.emplace_back();
  experts.rows = 1024;
  experts.cols = 256;
  experts.count = 5;
  programs[0].arena_bytes = 100;
  programs[1].arena_bytes = 1000;
  const auto need = memory_need(programs, {.num_sequences = 3, .num_kv_pages = 7}, FakeExecutor());
  EXPECT_EQ(need.weight_bytes, 5u << 20);
  EXPECT_EQ(need.cache_bytes, 32u * (3 * FakeExecutor::kRingPositions + 7 * 10));
  EXPECT_EQ(need.activation_bytes, 1000u);
  program::DeviceLimits device;
  device.name = "a small device";
  EXPECT_TRUE(check_memory(need, device));  // unknown
  device.memory_bytes = need.total_bytes();
  EXPECT_TRUE(check_memory(need, device));
  device.memory_bytes -= 1;
  const Status status = check_memory(need, device);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(status.error().message.find("weights 5, KV caches 1, activations 1"),
            std::string::npos);
  EXPECT_TRUE(status.error().message.ends_with("a small device has 5 MiB"));
}

}  // namespace
}  // namespace ultraspeed::engine
