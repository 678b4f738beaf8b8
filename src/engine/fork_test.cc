// Forks over the fake executor: the text is that of a session of its own, and the prompt is neither
// computed nor stored twice.
#include <gtest/gtest.h>

#include <vector>

#include "engine/engine_harness.h"

namespace ultraspeed::engine {
namespace {

GenerationParams sampled(uint64_t seed) {
  GenerationParams params;
  params.max_tokens = 20;
  params.sampling.repetition_penalty = 1.5F;
  params.sampling.seed = seed;
  return params;
}

TEST(Fork, SamplesOfOnePromptAreSessionsOfTheirOwn) {
  for (const size_t prompt_size : {1u, 4u, 5u, 6u, 19u, 33u}) {
    for (const uint32_t page_positions : {0u, 4u}) {
      HarnessOptions options;
      options.page_positions = page_positions;
      options.decode_width = 8;
      options.drafter.kind = DrafterKind::kRandom;
      options.block_size = 3;
      Harness harness(options);
      const auto prompt = prompt_of(prompt_size);
      std::vector<SessionId> ids = {harness.engine->start(prompt, sampled(100)).value()};
      while (harness.transcripts[ids[0]].tokens.empty()) ASSERT_TRUE(harness.step());
      const size_t num_prefill_steps = harness.executor->steps.size();
      for (uint64_t i = 1; i < 4; ++i) ids.push_back(harness.engine->fork(ids[0], 100 + i).value());
      ASSERT_TRUE(harness.run_until_idle());
      for (uint64_t i = 0; i < 4; ++i) {
        EXPECT_EQ(harness.transcripts[ids[i]], expected_transcript(prompt, sampled(100 + i), 64));
      }
      EXPECT_NE(harness.transcripts[ids[1]], harness.transcripts[ids[2]]);
      EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
      if (prompt_size == 1) continue;  // there is nothing but its last token, which is computed
      for (size_t i = num_prefill_steps; i < harness.executor->steps.size(); ++i) {
        EXPECT_EQ(harness.executor->steps[i].program, ProgramEngine::kDecode);
      }
    }
  }
}

TEST(Fork, SharesWholePagesAndCopiesTheLast) {
  Harness harness;  // pages of 4 positions
  const SessionId first = harness.engine->start(prompt_of(19), {}).value();
  while (harness.transcripts[first].tokens.empty()) ASSERT_TRUE(harness.step());
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u - 5);
  EXPECT_EQ(harness.engine->kv_usage().num_pages, 64u);
  EXPECT_EQ(harness.engine->kv_usage().num_used, 5u);
  ASSERT_TRUE(harness.engine->fork(first, 1));  // positions 0 to 17: four pages and two rows
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u - 6);
  EXPECT_EQ(harness.executor->num_page_copies, 1u);
  harness.engine->cancel(first);
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u - 5);

  const SessionId second = harness.engine->start(prompt_of(17), {}).value();
  while (harness.transcripts[second].tokens.empty()) ASSERT_TRUE(harness.step());
  ASSERT_TRUE(harness.engine->fork(second, 1));  // 16 positions: whole pages only
  EXPECT_EQ(harness.executor->num_page_copies, 1u);
}

TEST(Fork, WorksAtAnyTimeOfItsSource) {
  // In the middle of its prompt, later, and when its rings have lost the prompt.
  for (int steps = 0; steps < 45; ++steps) {
    Harness harness;
    GenerationParams params = sampled(7);
    params.max_tokens = 0;
    const auto prompt = prompt_of(20);
    const SessionId first = harness.engine->start(prompt, params).value();
    for (int i = 0; i < steps; ++i) ASSERT_TRUE(harness.step());
    const SessionId fork = harness.engine->fork(first, 8).value();
    const SessionId again = harness.engine->fork(fork, 9).value();
    ASSERT_TRUE(harness.run_until_idle());
    const std::vector<SessionId> ids = {first, fork, again};
    for (size_t i = 0; i < ids.size(); ++i) {
      params.sampling.seed = 7 + i;
      EXPECT_EQ(harness.transcripts[ids[i]], expected_transcript(prompt, params, 64)) << steps;
    }
    EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
  }
}

TEST(Fork, RefusesWhatDoesNotFit) {
  Harness harness({.max_context = 32, .max_sessions = 2, .num_kv_pages = 8});
  EXPECT_EQ(harness.engine->fork(5, 0).error().message,
            "session 5 is not active; a fork is made before its source ends");
  const SessionId first = harness.engine->start(prompt_of(27), {}).value();  // 7 pages
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(harness.step());
  ASSERT_TRUE(harness.step());  // position 27, still in page 6
  ASSERT_TRUE(harness.step());  // the 8th page
  const auto fork = harness.engine->fork(first, 1);
  ASSERT_FALSE(fork);
  EXPECT_EQ(fork.error().code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(fork.error().message,
            "a prompt of 27 tokens needs 1 KV pages, but 0 of 8 are free; wait until a session "
            "ends");
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 0u);
  harness.engine->cancel(first);
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 8u);
}

TEST(Fork, AFailedCopyEndsTheSessions) {
  Harness harness;
  const SessionId first = harness.engine->start(prompt_of(9), {}).value();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(harness.step());
  harness.executor->next_error = Error{ErrorCode::kInternal, "the copy failed"};
  EXPECT_EQ(harness.engine->fork(first, 1).error().message, "the copy failed");
  EXPECT_TRUE(harness.engine->idle());
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
  EXPECT_EQ(harness.step().error().message, "the copy failed");
}

}  // namespace
}  // namespace ultraspeed::engine
