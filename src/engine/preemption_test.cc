// Sessions without pages wait and are computed again: nothing of it shows in their texts.
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "engine/engine_harness.h"

namespace ultraspeed::engine {
namespace {

TEST(Preemption, TheSessionThatCameLastWaitsAndAllTextsAreWhole) {
  Harness harness({.max_context = 32, .max_sessions = 3, .num_kv_pages = 8});
  std::vector<SessionId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(harness.engine->start(prompt_of(7, i), {}).value());
  std::vector<size_t> order;  // in which they end
  while (!harness.engine->idle()) {
    ASSERT_TRUE(harness.step());
    for (const StepEvent& event : harness.last_events) {
      if (event.finished) order.push_back(event.session);
    }
  }
  EXPECT_EQ(order, ids);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(harness.transcripts[ids[static_cast<size_t>(i)]],
              expected_transcript(prompt_of(7, i), {}, 32));
  }
  EXPECT_GE(harness.engine->kv_usage().num_preemptions, 2u);
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 8u);
}

TEST(Preemption, WhatIsComputedAgainIsNoNews) {
  Harness harness({.prefill_width = 4, .max_context = 32, .max_sessions = 2, .num_kv_pages = 8});
  ASSERT_TRUE(harness.engine->start(prompt_of(7), {}));
  const SessionId second = harness.engine->start(prompt_of(9), {}).value();
  uint32_t done = 0;
  uint32_t num_tokens = 0;
  while (!harness.engine->idle()) {
    ASSERT_TRUE(harness.step());
    for (const StepEvent& event : harness.last_events) {
      if (event.session != second) continue;
      EXPECT_TRUE(event.token || event.prompt_tokens_done > done);
      EXPECT_GE(event.prompt_tokens_done, done);
      done = event.prompt_tokens_done;
      num_tokens += event.token ? 1 : 0;
    }
  }
  EXPECT_EQ(harness.engine->kv_usage().num_preemptions, 1u);
  EXPECT_EQ(num_tokens, 32u - 9);
}

TEST(Preemption, ConstraintsPenaltiesAndDraftersKeepTheirState) {
  for (const DrafterKind kind : {DrafterKind::kNone, DrafterKind::kRandom, DrafterKind::kSuffix,
                                 DrafterKind::kMtp, DrafterKind::kDflash}) {
    HarnessOptions options = drafting(kind, 1, 3);
    options.max_context = 32;
    options.num_kv_pages = 8;
    Harness harness(options);
    AnyToken constraint;
    GenerationParams params;
    params.sampling.constraint = &constraint;
    params.sampling.repetition_penalty = 1.5F;
    params.sampling.frequency_penalty = 0.5F;
    const SessionId first = harness.engine->start(prompt_of(7), params).value();
    const SessionId second = harness.engine->start(prompt_of(6, 40), params).value();
    ASSERT_TRUE(harness.run_until_idle());
    EXPECT_GE(harness.engine->kv_usage().num_preemptions, 1u);
    EXPECT_EQ(harness.transcripts[first], expected_transcript(prompt_of(7), params, 32));
    EXPECT_EQ(harness.transcripts[second], expected_transcript(prompt_of(6, 40), params, 32));
  }
}

TEST(Preemption, NewSessionsWaitBehindThoseWithoutPages) {
  Harness harness({.max_context = 32, .max_sessions = 3, .num_kv_pages = 8});
  ASSERT_TRUE(harness.engine->start(prompt_of(7), {}));
  const SessionId second = harness.engine->start(prompt_of(8), {}).value();
  while (harness.engine->kv_usage().num_preemptions == 0) ASSERT_TRUE(harness.step());
  const auto third = harness.engine->start(prompt_of(2), {});
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(third.error().message,
            "1 sessions wait for KV pages that others took; wait until a session ends");
  EXPECT_FALSE(harness.engine->fork(second, 3));
  harness.engine->cancel(second);
  EXPECT_TRUE(harness.engine->start(prompt_of(2), {}));
  ASSERT_TRUE(harness.run_until_idle());
  EXPECT_FALSE(harness.transcripts[second].finished);
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 8u);
}

TEST(Preemption, ASessionThatAllPagesAreNotEnoughForEnds) {
  Harness harness({.max_context = 32, .max_sessions = 2, .num_kv_pages = 4});  // 16 positions
  const SessionId first = harness.engine->start(prompt_of(3), {}).value();
  const SessionId second = harness.engine->start(prompt_of(4), {}).value();
  ASSERT_TRUE(harness.run_until_idle());
  for (const auto& [id, size] : {std::pair{first, 3}, {second, 4}}) {
    const Transcript whole = expected_transcript(prompt_of(static_cast<size_t>(size)), {}, 32);
    EXPECT_EQ(harness.transcripts[id].finished, FinishReason::kLength);
    const auto& tokens = harness.transcripts[id].tokens;
    EXPECT_EQ(tokens, std::vector(whole.tokens.begin(), whole.tokens.begin() + 17 - size));
  }
  const auto never = harness.engine->start(prompt_of(16), {});
  ASSERT_FALSE(never);
  EXPECT_EQ(never.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(never.error().message, "a prompt of 16 tokens needs 5 KV pages, but there are 4");
}

}  // namespace
}  // namespace ultraspeed::engine
