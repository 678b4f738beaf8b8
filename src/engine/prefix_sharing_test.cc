// Prompts that begin alike, over the fake executor: what the caches hold is taken over, and no text
// changes.
#include <gtest/gtest.h>

#include <vector>

#include "engine/engine_harness.h"

namespace ultraspeed::engine {
namespace {

using Tokens = std::vector<int32_t>;

HarnessOptions caching(uint32_t page_positions = 4) {
  HarnessOptions options;
  options.max_context = 128;
  options.num_kv_pages = 128;
  options.page_positions = page_positions;
  options.num_cached_prefixes = 4;
  return options;
}

GenerationParams tokens_of(uint32_t max_tokens) {
  GenerationParams params;
  params.max_tokens = max_tokens;
  return params;
}

// The tokens that a new session takes over; it runs to its end and has its text.
uint32_t num_taken(Harness& harness, const Tokens& prompt, const GenerationParams& params) {
  const SessionId id = harness.engine->start(prompt, params).value();
  EXPECT_TRUE(harness.run_until_idle());
  EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt, params, 128));
  return harness.last_events.back().prompt_tokens_cached;
}

Tokens joined(Tokens first, const Tokens& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

TEST(PrefixSharing, ASecondTurnComputesOnlyWhatIsNew) {
  for (const uint32_t page_positions : {4u, 0u}) {
    Harness harness(caching(page_positions));
    const Tokens prompt = prompt_of(50);
    EXPECT_EQ(num_taken(harness, prompt, tokens_of(9)), 0u);
    const Tokens answer = expected_transcript(prompt, tokens_of(9), 128).tokens;
    const Tokens second = joined(joined(prompt, answer), prompt_of(7, 60));
    const size_t num_steps = harness.executor->steps.size();
    // The last token of an answer has only been chosen.
    EXPECT_EQ(num_taken(harness, second, tokens_of(3)), 58u);
    EXPECT_EQ(harness.executor->steps[num_steps].columns.size(), 8u);
    EXPECT_EQ(harness.executor->steps[num_steps].columns.front().position, 58u);
    EXPECT_EQ(harness.engine->kv_pages().num_available(), harness.engine->kv_pages().num_pages());
  }
}

// Chat templates drop the reasoning of earlier turns: a text goes on where a long answer began.
TEST(PrefixSharing, TheEndOfAPromptIsKeptWhenTheRingsLoseIt) {
  Harness harness(caching());
  const Tokens prompt = prompt_of(50);
  num_taken(harness, prompt, tokens_of(60));  // the fake rings lose a position after 16 others
  EXPECT_EQ(num_taken(harness, joined(prompt, prompt_of(20, 5)), tokens_of(1)), 50u);
  EXPECT_EQ(num_taken(harness, joined(prompt_of(46), prompt_of(20, 7)), tokens_of(1)), 46u);
}

// Requests with the same tools and system prompt: the second shows where they part, the third
// begins there.
TEST(PrefixSharing, WherePromptsPartIsKept) {
  Harness harness(caching());
  EXPECT_EQ(num_taken(harness, joined(prompt_of(40), prompt_of(40, 50)), tokens_of(1)), 0u);
  EXPECT_EQ(num_taken(harness, joined(prompt_of(40), prompt_of(35, 51)), tokens_of(1)), 0u);
  EXPECT_EQ(num_taken(harness, joined(prompt_of(40), prompt_of(38, 52)), tokens_of(1)), 40u);
  EXPECT_EQ(num_taken(harness, joined(prompt_of(40), prompt_of(33, 53)), tokens_of(1)), 40u);
}

// What has been taken over before the end of a text comes with rings that have lost what they lost
// for that text.
TEST(PrefixSharing, ACopyOfRingsHasLostWhatTheyHad) {
  Harness harness(caching());
  num_taken(harness, prompt_of(62), tokens_of(1));
  EXPECT_EQ(num_taken(harness, joined(prompt_of(48), prompt_of(2, 90)), tokens_of(1)), 48u);
  EXPECT_EQ(num_taken(harness, joined(prompt_of(40), prompt_of(2, 80)), tokens_of(1)), 0u);
}

TEST(PrefixSharing, WhatACancelledSessionComputedIsKept) {
  Harness harness(caching());
  const SessionId id = harness.engine->start(prompt_of(60), {}).value();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(harness.step());
  harness.engine->cancel(id);
  EXPECT_EQ(num_taken(harness, prompt_of(60), tokens_of(2)), 24u);
}

TEST(PrefixSharing, SamplesOfOnePromptThatComeTogetherComputeItOnce) {
  Harness harness(caching());
  std::vector<SessionId> ids;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    GenerationParams params = tokens_of(20);
    params.sampling.seed = seed;
    ids.push_back(harness.engine->start(prompt_of(40), params).value());
  }
  ASSERT_TRUE(harness.run_until_idle());
  size_t num_prefilled = 0;
  for (const auto& step : harness.executor->steps) {
    if (step.program == ProgramEngine::kPrefill) num_prefilled += step.columns.size();
  }
  EXPECT_EQ(num_prefilled, 40u + 3);  // each computes the last token
  for (uint64_t seed = 0; seed < 4; ++seed) {
    GenerationParams params = tokens_of(20);
    params.sampling.seed = seed;
    EXPECT_EQ(harness.transcripts[ids[seed]], expected_transcript(prompt_of(40), params, 128));
  }
}

TEST(PrefixSharing, DomainsShareNothing) {
  Harness harness(caching());
  GenerationParams params = tokens_of(2);
  params.cache_domain = "alice";
  EXPECT_EQ(num_taken(harness, prompt_of(40), params), 0u);
  params.cache_domain = "bob";
  EXPECT_EQ(num_taken(harness, prompt_of(40), params), 0u);
  EXPECT_EQ(num_taken(harness, prompt_of(40), tokens_of(2)), 0u);
  params.cache_domain = "alice";
  EXPECT_EQ(num_taken(harness, prompt_of(40), params), 39u);
}

TEST(PrefixSharing, PrefixesGiveTheirPagesToSessions) {
  HarnessOptions options = caching();
  options.num_kv_pages = 32;  // one context
  Harness harness(options);
  num_taken(harness, prompt_of(60, 1), tokens_of(1));
  num_taken(harness, prompt_of(50, 2), tokens_of(1));
  EXPECT_EQ(harness.engine->kv_usage().num_used, 0u);
  EXPECT_EQ(harness.engine->kv_usage().num_cached, 15u + 13);
  EXPECT_EQ(num_taken(harness, prompt_of(52, 2), tokens_of(1)), 50u);
  EXPECT_EQ(num_taken(harness, joined(prompt_of(90, 3), prompt_of(10)), tokens_of(28)), 0u);
  EXPECT_EQ(num_taken(harness, prompt_of(60, 1), tokens_of(1)), 0u);
  EXPECT_EQ(harness.engine->kv_pages().num_available(), 32u);
}

// The prefix fills all pages, and its own last page has to go for the copy of it.
TEST(PrefixSharing, APrefixThatLeavesNoPageGoesToo) {
  HarnessOptions options = caching();
  options.num_kv_pages = 32;
  Harness harness(options);
  const Tokens prompt = joined(prompt_of(90), prompt_of(36));
  EXPECT_EQ(num_taken(harness, prompt, tokens_of(1)), 0u);
  EXPECT_EQ(num_taken(harness, prompt, tokens_of(1)), 0u);
}

TEST(PrefixSharing, ScoresRunBesideIt) {
  Harness harness(caching());
  num_taken(harness, prompt_of(40), tokens_of(2));
  const Tokens text = prompt_of(30, 7);
  EXPECT_EQ(harness.engine->score(text, {}).value().size(), 29u);
  EXPECT_EQ(num_taken(harness, prompt_of(40), tokens_of(2)), 39u);
}

TEST(PrefixSharing, AFailedStepForgetsEverything) {
  Harness harness(caching());
  num_taken(harness, prompt_of(40), tokens_of(2));
  ASSERT_TRUE(harness.engine->start(prompt_of(20), {}));
  harness.executor->next_error = Error{ErrorCode::kIo, "a step failed"};
  EXPECT_FALSE(harness.step());
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 128u);
  EXPECT_EQ(num_taken(harness, prompt_of(40), tokens_of(2)), 0u);
}

TEST(PrefixSharing, AFailedCopyEndsTheSessions) {
  Harness harness(caching());
  num_taken(harness, prompt_of(40), tokens_of(2));
  harness.executor->next_error = Error{ErrorCode::kInternal, "the copy failed"};
  EXPECT_EQ(harness.engine->start(prompt_of(40), {}).error().message, "the copy failed");
  EXPECT_TRUE(harness.engine->idle());
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 128u);
}

TEST(PrefixSharing, MtpHeadsAndDraftingProgramsGoOn) {
  for (const DrafterKind kind : {DrafterKind::kMtp, DrafterKind::kDflash, DrafterKind::kRandom}) {
    HarnessOptions options = caching();
    options.drafter.kind = kind;
    options.block_size = 4;
    Harness harness(options);
    const uint32_t look_ahead = kind == DrafterKind::kMtp ? 3 : 0;
    num_taken(harness, prompt_of(40), tokens_of(12));
    EXPECT_EQ(num_taken(harness, prompt_of(40), tokens_of(12)), 39u - look_ahead);
    const Tokens second = joined(prompt_of(40), prompt_of(9, 70));
    EXPECT_EQ(num_taken(harness, second, tokens_of(30)), 40u - look_ahead);
  }
}

}  // namespace
}  // namespace ultraspeed::engine
