// Blocks of drafts over the fake executor: what is accepted, where a block ends, how sessions share
// columns and pages, and that no draft ever changes a text.
#include "engine/speculation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "engine/engine_harness.h"

namespace ultraspeed::engine {
namespace {

// Starts a session that a replay drafter knows the output of.
SessionId start_known(Harness& harness, const std::vector<int32_t>& prompt,
                      GenerationParams params) {
  params.expected_output =
      expected_transcript(prompt, params, harness.engine->max_context()).tokens;
  return harness.engine->start(prompt, params).value();
}

const std::vector<DrafterOptions> kDrafters = {
    {DrafterKind::kNone, 1},   {DrafterKind::kSuffix, 1}, {DrafterKind::kRandom, 1},
    {DrafterKind::kReplay, 1}, {DrafterKind::kReplay, 2}, {DrafterKind::kReplay, 5},
    {DrafterKind::kReplay, 8}, {DrafterKind::kDflash, 1}, {DrafterKind::kMtp, 1}};

TEST(Speculation, EveryDrafterGivesTheSameText) {
  GenerationParams params;
  params.sampling.seed = 5;
  params.sampling.repetition_penalty = 1.25F;
  params.sampling.presence_penalty = 0.5F;
  params.sampling.frequency_penalty = 0.25F;
  params.sampling.logit_bias = {{50, 2.5F}, {3, -1.0F}};
  const auto prompt = prompt_of(10);
  const Transcript expected = expected_transcript(prompt, params, 64);
  for (const DrafterOptions& drafter : kDrafters) {
    Harness harness(drafting(drafter.kind, drafter.tokens_per_cycle));
    const SessionId id = start_known(harness, prompt, params);
    ASSERT_TRUE(harness.run_until_idle());
    EXPECT_EQ(harness.transcripts[id], expected) << static_cast<int>(drafter.kind);
    EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
  }
}

// Beside one that does.
TEST(Speculation, ASessionMayGoOnWithoutDrafts) {
  for (const DrafterOptions& drafter : kDrafters) {
    if (drafter.kind == DrafterKind::kReplay && drafter.tokens_per_cycle == 1) continue;
    Harness harness(drafting(drafter.kind, drafter.tokens_per_cycle));
    GenerationParams params;
    params.max_tokens = 21;
    const SessionId drafted = start_known(harness, prompt_of(10), params);
    GenerationParams plain = params;
    plain.speculates = false;
    const SessionId alone = start_known(harness, prompt_of(10), plain);
    ASSERT_TRUE(harness.run_until_idle());
    const Transcript expected = expected_transcript(prompt_of(10), params, 64);
    EXPECT_EQ(harness.transcripts[drafted], expected);
    EXPECT_EQ(harness.transcripts[alone], expected);
    EXPECT_EQ(harness.speculation[alone].num_cycles(), 20u);
    EXPECT_TRUE(harness.speculation[alone].acceptance().empty());
  }
}

TEST(Speculation, StepsWithoutDraftsTakeTheProgramWithoutThem) {
  HarnessOptions options = drafting(DrafterKind::kDflash, 4);
  options.has_plain_decode = true;
  for (const bool speculates : {false, true}) {
    Harness harness(options);
    GenerationParams params;
    params.max_tokens = 21;
    params.speculates = speculates;
    const SessionId id = start_known(harness, prompt_of(10), params);
    ASSERT_TRUE(harness.run_until_idle());
    EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt_of(10), params, 64));
    size_t num_plain = 0, num_drafting = 0;
    for (const FakeExecutor::Record& step : harness.executor->steps) {
      if (step.program == ProgramEngine::kPrefill) continue;
      const bool is_plain = step.program == ProgramEngine::kPlainDecode;
      EXPECT_EQ(is_plain, step.columns.size() == 1);
      ++(is_plain ? num_plain : num_drafting);
    }
    EXPECT_EQ(num_drafting > 0, speculates);
    EXPECT_EQ(num_plain == 20u, !speculates);
  }
}

TEST(Speculation, AcceptsAllSomeAndNone) {
  GenerationParams params;
  params.max_tokens = 41;  // 40 after the prefill's
  for (const uint32_t tokens_per_cycle : {1u, 2u, 4u, 5u, 8u}) {
    Harness harness(drafting(DrafterKind::kReplay, tokens_per_cycle));
    const SessionId id = start_known(harness, prompt_of(10), params);
    ASSERT_TRUE(harness.run_until_idle());
    const SpeculationStats& stats = harness.speculation[id];
    EXPECT_EQ(stats.num_cycles(), 40u / tokens_per_cycle);
    EXPECT_EQ(stats.accepted_length(), tokens_per_cycle);
    const auto acceptance = stats.acceptance();
    ASSERT_EQ(acceptance.size(), std::min(tokens_per_cycle, 7u));
    for (size_t i = 0; i < acceptance.size(); ++i) {
      EXPECT_EQ(acceptance[i], i + 1 < tokens_per_cycle ? 1 : 0);
    }
  }
}

TEST(Speculation, ABlockEndsAtTheStopToken) {
  const auto prompt = prompt_of(10);
  const Transcript whole = expected_transcript(prompt, {}, 64);
  for (size_t length = 2; length <= 12; ++length) {
    GenerationParams params;
    params.stop_ids = {whole.tokens[length - 1]};
    const Transcript expected = expected_transcript(prompt, params, 64);
    Harness harness(drafting(DrafterKind::kReplay, 8));
    params.expected_output = whole.tokens;  // the drafter knows what would come after the stop
    const SessionId id = harness.engine->start(prompt, params).value();
    ASSERT_TRUE(harness.run_until_idle());
    EXPECT_EQ(harness.transcripts[id], expected);
    EXPECT_EQ(expected.finished, FinishReason::kStop);
    // Nothing comes after the token that ends a session, and cut tokens are not counted.
    EXPECT_TRUE(harness.last_events.back().finished);
    const VerifyCycle& cycle = harness.last_events.front().cycle.value();
    EXPECT_EQ(cycle.num_tokens, harness.last_events.size());
    EXPECT_LE(cycle.num_accepted, cycle.num_tokens);
    const SpeculationStats& stats = harness.speculation[id];
    EXPECT_EQ(stats.accepted_length() * static_cast<double>(stats.num_cycles()),
              static_cast<double>(expected.tokens.size()) - 1);
  }
}

TEST(Speculation, ABlockEndsAtTheLimitsOfLengthAndContext) {
  for (uint32_t max_tokens = 0; max_tokens <= 20; ++max_tokens) {
    GenerationParams params;
    params.max_tokens = max_tokens;
    HarnessOptions options = drafting(DrafterKind::kRandom);
    options.max_context = 25;
    Harness harness(options);
    const auto prompt = prompt_of(10);
    const SessionId id = harness.engine->start(prompt, params).value();
    ASSERT_TRUE(harness.run_until_idle());
    EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt, params, 25));
    const uint32_t limit = max_tokens == 0 ? 25 : std::min(25u, 10 + max_tokens);
    for (const auto& step : harness.executor->steps) {
      // The last token of the output is chosen but never computed.
      for (const auto& column : step.columns) EXPECT_LT(column.position + 1, limit);
    }
  }
}

TEST(Speculation, LogprobsAreThoseOfTheAcceptedRows) {
  Harness harness(drafting(DrafterKind::kReplay, 4));
  GenerationParams params;
  params.sampling.num_logprobs = 2;
  std::vector<int32_t> tokens = prompt_of(10);
  start_known(harness, tokens, params);
  while (!harness.engine->idle()) {
    ASSERT_TRUE(harness.step());
    for (const StepEvent& event : harness.last_events) {
      if (!event.token) continue;
      EXPECT_EQ(event.token->logprob, FakeExecutor::logprob(tokens, event.token->id));
      EXPECT_EQ(event.token->top_logprobs.size(), 2u);
      tokens.push_back(event.token->id);
    }
  }
  EXPECT_EQ(tokens.size(), 64u);
}

TEST(Speculation, SessionsShareTheColumns) {
  HarnessOptions options = drafting(DrafterKind::kRandom);
  options.num_kv_pages = 200;
  for (const auto& [num_sessions, block_sizes] :
       std::vector<std::pair<size_t, std::vector<size_t>>>{{1, {8}},
                                                           {2, {4, 4}},
                                                           {3, {3, 3, 2}},
                                                           {5, {2, 2, 2, 1, 1}},
                                                           {9, std::vector<size_t>(8, 1)}}) {
    options.max_sessions = static_cast<uint32_t>(num_sessions);
    Harness harness(options);
    for (size_t i = 0; i < num_sessions; ++i) {
      ASSERT_TRUE(harness.engine->start(prompt_of(3, static_cast<int32_t>(i)), {}));
    }
    for (size_t i = 0; i < 2 * num_sessions + 1; ++i) ASSERT_TRUE(harness.step());
    std::vector<size_t> sizes;
    uint32_t before = 1000;
    for (const auto& column : harness.executor->steps.back().columns) {
      if (column.sequence != before) sizes.push_back(0);
      before = column.sequence;
      ++sizes.back();
    }
    EXPECT_EQ(sizes, block_sizes);
    ASSERT_TRUE(harness.run_until_idle());
    for (size_t i = 0; i < num_sessions; ++i) {
      EXPECT_EQ(harness.transcripts[i + 1],
                expected_transcript(prompt_of(3, static_cast<int32_t>(i)), {}, 64));
    }
  }
}

TEST(Speculation, FewPagesShrinkBlocksAndEndNobodyEarly) {
  // What happens with too few pages must be the same with drafts as without.
  const auto transcripts_with = [](DrafterKind kind) {
    HarnessOptions options = drafting(kind);
    options.max_context = 32;
    options.max_sessions = 2;
    options.num_kv_pages = 9;
    Harness harness(options);
    EXPECT_TRUE(harness.engine->start(prompt_of(7), {}));
    EXPECT_TRUE(harness.engine->start(prompt_of(5), {}));
    EXPECT_TRUE(harness.run_until_idle());
    EXPECT_EQ(harness.engine->kv_pages().num_free(), 9u);
    return harness.transcripts;
  };
  EXPECT_EQ(transcripts_with(DrafterKind::kNone), transcripts_with(DrafterKind::kRandom));

  HarnessOptions options = drafting(DrafterKind::kRandom);
  options.max_context = 32;
  options.max_sessions = 2;
  options.num_kv_pages = 8;
  Harness harness(options);
  ASSERT_TRUE(harness.engine->start(prompt_of(18), {}));  // 5 pages: positions 0 to 19
  ASSERT_TRUE(harness.engine->start(prompt_of(9), {}));   // the other 3
  ASSERT_TRUE(harness.step());
  while (harness.executor->steps.back().program != ProgramEngine::kDecode) {
    ASSERT_TRUE(harness.step());
  }
  EXPECT_EQ(harness.executor->steps.back().columns.size(), 2u);  // 18 and 19, not 8 columns
}

TEST(Speculation, PagesOfWrongDraftsAreGivenBack) {
  HarnessOptions options = drafting(DrafterKind::kRandom);
  Harness harness(options);
  ASSERT_TRUE(harness.engine->start(prompt_of(8), {}));  // page of 4 positions
  ASSERT_TRUE(harness.step());
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u - 3);
  ASSERT_TRUE(harness.step());  // wrote positions 8 to 15, of which one stays
  EXPECT_EQ(harness.executor->steps.back().columns.back().position, 15u);
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u - 3);
}

TEST(Speculation, TimesAreThoseOfTheDecodeSteps) {
  Harness harness(drafting(DrafterKind::kRandom, 1, 4));
  harness.executor->draft_s = 2;  // longer than the step: the parts are told apart, not clamped
  ASSERT_TRUE(harness.engine->start(prompt_of(8), {}));
  ASSERT_TRUE(harness.step());
  EXPECT_EQ(harness.engine->decode_times().num_steps, 0u);
  EXPECT_EQ(harness.engine->decode_times().total_s(), 0);
  ASSERT_TRUE(harness.step());
  ASSERT_TRUE(harness.step());
  const DecodeTimes times = harness.engine->decode_times();
  EXPECT_EQ(times.num_steps, 2u);
  EXPECT_GT(times.draft_s, 4);
  EXPECT_GT(times.verify_s, -4);
  EXPECT_LT(times.verify_s, 0);
  EXPECT_GT(times.other_s, 0);
  EXPECT_GT(times.total_s(), 0);
}

TEST(Speculation, AcceptingMoreThanWasDraftedIsAnInternalError) {
  Harness harness(drafting(DrafterKind::kRandom, 1, 4));
  ASSERT_TRUE(harness.engine->start(prompt_of(8), {}));
  ASSERT_TRUE(harness.step());
  harness.executor->next_accepted = 4;
  const Status status = harness.step();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInternal);
  EXPECT_EQ(status.error().message, "the executor accepted 4 of 3 drafts");
}

TEST(Speculation, AProgramThatDraftsFillsTheBlock) {
  for (const uint32_t block_size : {1u, 3u, 8u}) {
    Harness harness(drafting(DrafterKind::kDflash, 1, block_size));
    GenerationParams params;
    params.sampling.temperature = 0.5F;
    params.sampling.seed = 9;
    params.sampling.logit_bias = {{50, 2.5F}, {3, -1.0F}};
    const auto prompt = prompt_of(10);
    const SessionId id = harness.engine->start(prompt, params).value();
    while (!harness.engine->idle()) {
      ASSERT_TRUE(harness.step());
      const FakeExecutor::Record& step = harness.executor->steps.back();
      if (step.program == ProgramEngine::kPrefill) continue;
      const auto& columns = step.columns;
      const uint32_t num_left = 63 - columns[0].position;  // the last token is never computed
      ASSERT_EQ(columns.size(), std::min(block_size, num_left));
      for (size_t i = 0; i < columns.size(); ++i) {
        EXPECT_EQ(columns[i].is_drafted, i > 0);
        EXPECT_TRUE(columns[i].wants_logits);
        EXPECT_EQ(columns[i].sampling.seed, 9u);
      }
    }
    EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt, params, 64));
    const double length = harness.speculation[id].accepted_length();
    EXPECT_GE(length, block_size == 1 ? 1.0 : 1.3);
  }
}

TEST(Speculation, ABlockOfTheProgramEndsAtStopsAndLimits) {
  const auto prompt = prompt_of(10);
  const Transcript whole = expected_transcript(prompt, {}, 64);
  for (uint32_t length = 1; length <= 20; ++length) {
    for (const bool is_stop : {false, true}) {
      GenerationParams params;
      if (is_stop) params.stop_ids = {whole.tokens[length - 1]};
      if (!is_stop) params.max_tokens = length;
      Harness harness(drafting(DrafterKind::kDflash));
      const SessionId id = harness.engine->start(prompt, params).value();
      ASSERT_TRUE(harness.run_until_idle());
      EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt, params, 64));
      EXPECT_TRUE(harness.last_events.back().finished);
    }
  }
}

TEST(Speculation, WhatDependsOnEveryDraftMovesDraftingToTheHost) {
  const auto kind_with = [](auto&& change) {
    SamplingParams params;
    change(params);
    return session_drafter(DrafterKind::kDflash, params);
  };
  EXPECT_EQ(kind_with([](auto& p) { p.logit_bias = {{1, 1}}; }), DrafterKind::kDflash);
  EXPECT_EQ(kind_with([](auto& p) { p.repetition_penalty = 1.1F; }), DrafterKind::kSuffix);
  EXPECT_EQ(kind_with([](auto& p) { p.presence_penalty = 0.5F; }), DrafterKind::kSuffix);
  EXPECT_EQ(kind_with([](auto& p) { p.frequency_penalty = -0.5F; }), DrafterKind::kSuffix);
  EXPECT_EQ(kind_with([](auto& p) { p.acceptance = Acceptance::kRejection; }),
            DrafterKind::kDflash);
  const AnyToken constraint;
  EXPECT_EQ(kind_with([&](auto& p) { p.constraint = &constraint; }), DrafterKind::kSuffix);
  SamplingParams other;
  other.presence_penalty = 1;
  EXPECT_EQ(session_drafter(DrafterKind::kRandom, other), DrafterKind::kRandom);

  // Beside a session that the program drafts for; the repetitive prompt gives suffix drafts.
  Harness harness(drafting(DrafterKind::kDflash));
  GenerationParams penalised;
  penalised.sampling.frequency_penalty = 0.25F;
  std::vector<int32_t> prompt;
  for (int i = 0; i < 16; ++i) prompt.push_back(i % 4);
  const SessionId first = harness.engine->start(prompt, penalised).value();
  const SessionId second = harness.engine->start(prompt, {}).value();
  ASSERT_TRUE(harness.run_until_idle());
  EXPECT_EQ(harness.transcripts[first], expected_transcript(prompt, penalised, 64));
  EXPECT_EQ(harness.transcripts[second], expected_transcript(prompt, {}, 64));
  size_t num_drafted = 0;
  for (const auto& step : harness.executor->steps) {
    for (const auto& column : step.columns) {
      EXPECT_FALSE(column.is_drafted && column.sequence == 0);
      num_drafted += column.is_drafted ? 1 : 0;
    }
  }
  EXPECT_GT(num_drafted, 40u);
}

TEST(Speculation, AcceptingAnotherTokenThanWasChosenIsAnInternalError) {
  Harness harness(drafting(DrafterKind::kDflash));
  ASSERT_TRUE(harness.engine->start(prompt_of(8), {}));
  Status status = harness.step();
  while (status) {
    harness.executor->misreports_a_draft = true;
    status = harness.step();
  }
  EXPECT_EQ(status.error().code, ErrorCode::kInternal);
  EXPECT_TRUE(status.error().message.starts_with("the executor accepted token "))
      << status.error().message;
}

// Every step after a session's first has a whole block, as far as its limit lets it; with penalties
// and rejection, too, for the host knows the drafts.
TEST(Speculation, WhatMtpHeadsProposeIsVerifiedInTheNextStep) {
  for (const uint32_t block_size : {2u, 4u, 8u}) {
    Harness harness(drafting(DrafterKind::kMtp, 1, block_size));
    GenerationParams params;
    params.sampling.seed = 9;
    if (block_size == 4) params.sampling.presence_penalty = 0.5F;
    const auto prompt = prompt_of(21);  // chunks of 8
    const SessionId id = harness.engine->start(prompt, params).value();
    while (!harness.engine->idle()) {
      ASSERT_TRUE(harness.step());
      const FakeExecutor::Record& step = harness.executor->steps.back();
      if (step.program == ProgramEngine::kPrefill) continue;
      const uint32_t num_left = 63 - step.columns[0].position;
      ASSERT_EQ(step.columns.size(), std::min(block_size, num_left));
      for (const program::Column& column : step.columns) EXPECT_FALSE(column.is_drafted);
    }
    EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt, params, 64));
    EXPECT_GT(harness.speculation[id].accepted_length(), block_size == 4 ? 0.99 : 1.2);
  }
  SamplingParams rejecting;
  rejecting.acceptance = Acceptance::kRejection;
  EXPECT_EQ(session_drafter(DrafterKind::kMtp, rejecting), DrafterKind::kMtp);
}

// A fork has seen no step of its own: its first one has its anchor alone.
TEST(Speculation, AForkDraftsFromItsFirstStepOn) {
  Harness harness(drafting(DrafterKind::kMtp, 1, 4));
  const auto prompt = prompt_of(6);
  const SessionId first = harness.engine->start(prompt, {}).value();
  ASSERT_TRUE(harness.step());
  const SessionId second = harness.engine->fork(first, 7).value();
  ASSERT_TRUE(harness.step());
  const auto& columns = harness.executor->steps.back().columns;
  EXPECT_EQ(std::ranges::count(columns, 0u, &program::Column::sequence), 4);
  EXPECT_EQ(std::ranges::count(columns, 1u, &program::Column::sequence), 1);
  ASSERT_TRUE(harness.run_until_idle());
  GenerationParams params;
  params.sampling.seed = 7;
  EXPECT_EQ(harness.transcripts[second], expected_transcript(prompt, params, 64));
}

// Heads look three tokens ahead: the last chunk of a prompt has as many.
TEST(Speculation, APromptsLastChunkIsAsLongAsMtpHeadsLookAhead) {
  Harness harness(drafting(DrafterKind::kMtp, 1, 4));
  for (uint32_t size = 1; size <= 30; ++size) {
    harness.executor->steps.clear();
    const SessionId id = harness.engine->start(prompt_of(size), {}).value();
    ASSERT_TRUE(harness.run_until_idle());
    EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt_of(size), {}, 64));
    uint32_t num_left = size;
    for (const auto& step : harness.executor->steps) {
      if (step.program == ProgramEngine::kDecode) break;
      EXPECT_TRUE(num_left == size || num_left >= 3) << size;
      num_left -= static_cast<uint32_t>(step.columns.size());
    }
    EXPECT_EQ(num_left, 0u);
  }
}

TEST(Speculation, ProposingWhatIsNoTokenIsAnInternalError) {
  const auto error_for = [](const std::vector<int32_t>& proposed) {
    Harness harness(drafting(DrafterKind::kMtp, 1, 3));
    EXPECT_TRUE(harness.engine->start(prompt_of(5), {}));
    harness.executor->next_proposed = proposed;
    const Status status = harness.step();
    EXPECT_EQ(status ? ErrorCode::kIo : status.error().code, ErrorCode::kInternal);
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(error_for({5}), "the executor proposed 1 tokens after position 4, expected 2");
  EXPECT_EQ(error_for({5, 97}),
            "the executor proposed token 97 after position 4, expected 0 to 96");
  EXPECT_EQ(error_for({-1, 5}),
            "the executor proposed token -1 after position 4, expected 0 to 96");
}

TEST(SpeculationStats, CountsPerPosition) {
  SpeculationStats stats;
  EXPECT_EQ(stats.accepted_length(), 0);
  EXPECT_FALSE(stats.has_drafts());
  stats.add({.num_drafts = 0, .num_accepted = 0, .num_tokens = 1});
  EXPECT_FALSE(stats.has_drafts());
  stats.add({.num_drafts = 3, .num_accepted = 1, .num_tokens = 2});
  stats.add({.num_drafts = 1, .num_accepted = 1, .num_tokens = 2});
  stats.add({.num_drafts = 2, .num_accepted = 2, .num_tokens = 2});
  EXPECT_EQ(stats.num_cycles(), 4u);
  EXPECT_EQ(stats.num_tokens(), 7u);
  EXPECT_EQ(stats.accepted_length(), 7.0 / 4);
  EXPECT_TRUE(std::ranges::equal(stats.lengths(), std::vector<uint64_t>{1, 3}));
  EXPECT_EQ(stats.length_shares(), (std::vector<double>{0.25, 0.75}));
  EXPECT_EQ(stats.acceptance(), (std::vector<double>{1, 0.5, 0}));
  SpeculationStats sum;
  sum.add({.num_drafts = 1, .num_accepted = 0, .num_tokens = 1});
  sum.add(stats);
  EXPECT_EQ(sum.num_cycles(), 5u);
  EXPECT_EQ(sum.accepted_length(), 8.0 / 5);
  EXPECT_TRUE(std::ranges::equal(sum.lengths(), std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(sum.acceptance(), (std::vector<double>{0.75, 0.5, 0}));
}

}  // namespace
}  // namespace ultraspeed::engine
