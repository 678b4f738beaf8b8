// The engine over the fake executor: limits, finish reasons, turns, errors and scoring.
#include "engine/program_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/engine_harness.h"

namespace ultraspeed::engine {
namespace {

GenerationParams limited_to(uint32_t max_tokens) {
  GenerationParams params;
  params.max_tokens = max_tokens;
  return params;
}

Error start_error(Harness& harness, const std::vector<int32_t>& prompt,
                  const GenerationParams& params = {}) {
  const auto id = harness.engine->start(prompt, params);
  EXPECT_FALSE(id);
  return id ? Error() : id.error();
}

TEST(ProgramEngine, PrefillsInChunksAndDecodesColumnByColumn) {
  Harness harness;  // prefill width 8
  const auto prompt = prompt_of(19);
  const auto params = limited_to(3);
  const SessionId id = harness.engine->start(prompt, params).value();
  std::vector<uint32_t> done;
  while (!harness.engine->idle()) {
    ASSERT_TRUE(harness.step());
    ASSERT_EQ(harness.last_events.size(), 1u);
    done.push_back(harness.last_events[0].prompt_tokens_done);
    EXPECT_EQ(harness.last_events[0].token.has_value(), done.size() >= 3);
  }
  EXPECT_EQ(done, (std::vector<uint32_t>{8, 16, 19, 19, 19}));
  EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt, params, 64));

  const auto& steps = harness.executor->steps;
  ASSERT_EQ(steps.size(), 5u);
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].program, i < 3 ? ProgramEngine::kPrefill : ProgramEngine::kDecode);
    EXPECT_EQ(steps[i].columns.size(), (std::vector<size_t>{8, 8, 3, 1, 1})[i]);
    for (size_t c = 0; c < steps[i].columns.size(); ++c) {
      // Only the last column of the prompt, and what follows it, gives a token.
      EXPECT_EQ(steps[i].columns[c].wants_logits, i >= 2 && c + 1 == steps[i].columns.size());
    }
  }
  EXPECT_EQ(steps[4].columns[0].position, 20u);
}

TEST(ProgramEngine, PassesSamplingAndReturnsLogprobs) {
  Harness harness;
  GenerationParams params = limited_to(1);
  params.sampling = {.temperature = 0.5F,
                     .top_k = 7,
                     .top_p = 0.75F,
                     .min_p = 0.125F,
                     .repetition_penalty = 1,
                     .presence_penalty = 0,
                     .frequency_penalty = 0,
                     .logit_bias = {},
                     .constraint = nullptr,
                     .seed = 12345678901234u,
                     .num_logprobs = 2};
  const auto prompt = prompt_of(2);
  ASSERT_TRUE(harness.engine->start(prompt, params));
  ASSERT_TRUE(harness.step());
  const auto& sampling = harness.executor->steps[0].columns.back().sampling;
  EXPECT_EQ(sampling.temperature, 0.5F);
  EXPECT_EQ(sampling.top_k, 7u);
  EXPECT_EQ(sampling.top_p, 0.75F);
  EXPECT_EQ(sampling.min_p, 0.125F);
  EXPECT_EQ(sampling.seed, 12345678901234u);
  EXPECT_EQ(sampling.num_logprobs, 2u);
  EXPECT_EQ(sampling.forced_token_id, -1);
  const Token& token = *harness.last_events[0].token;
  EXPECT_EQ(token.logprob, FakeExecutor::logprob(prompt, token.id));
  EXPECT_EQ(token.top_logprobs, (std::vector<std::pair<int32_t, float>>{{0, -0.0F}, {1, -1.0F}}));
}

TEST(ProgramEngine, EndsForEachReason) {
  const auto prompt = prompt_of(10);
  const auto transcript_of = [&](const GenerationParams& params) {
    Harness harness;
    const SessionId id = harness.engine->start(prompt, params).value();
    EXPECT_TRUE(harness.run_until_idle());
    EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
    return harness.transcripts[id];
  };
  const Transcript whole = transcript_of({});
  EXPECT_EQ(whole.finished, FinishReason::kLength);
  EXPECT_EQ(whole.tokens.size(), 54u);  // prompt and output fill the context of 64
  EXPECT_EQ(transcript_of(limited_to(1000)).tokens, whole.tokens);

  const Transcript short_one = transcript_of(limited_to(5));
  EXPECT_EQ(short_one.finished, FinishReason::kLength);
  EXPECT_EQ(short_one.tokens, std::vector(whole.tokens.begin(), whole.tokens.begin() + 5));

  GenerationParams stopping = limited_to(5);
  stopping.stop_ids = {-7, whole.tokens[4]};
  const auto stop_at = std::find(whole.tokens.begin(), whole.tokens.end(), whole.tokens[4]) + 1;
  const Transcript stopped = transcript_of(stopping);
  EXPECT_EQ(stopped.finished, FinishReason::kStop);  // although max_tokens is reached as well
  EXPECT_EQ(stopped.tokens, std::vector(whole.tokens.begin(), stop_at));

  stopping.ignore_eos = true;
  EXPECT_EQ(transcript_of(stopping), short_one);
}

TEST(ProgramEngine, RefusesWhatDoesNotFit) {
  Harness harness({.max_context = 32, .max_sessions = 2, .num_kv_pages = 10});  // 40 positions
  EXPECT_EQ(start_error(harness, {}).message, "the prompt is empty, expected at least one token");
  EXPECT_EQ(start_error(harness, {5, 97}).message,
            "token 1 of the prompt is 97, expected an id from 0 to 96");
  const Error full = start_error(harness, prompt_of(32));
  EXPECT_EQ(full.code, ErrorCode::kInvalidArgument);
  EXPECT_NE(full.message.find("the prompt has 32 tokens, expected at most 31"), std::string::npos);
  GenerationParams hot;
  hot.sampling.temperature = 101;
  EXPECT_NE(start_error(harness, {5}, hot).message.find("temperature"), std::string::npos);
  EXPECT_TRUE(harness.engine->idle());
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 10u);

  const SessionId first = harness.engine->start(prompt_of(24), {}).value();  // 7 pages for 25
  const Error pages = start_error(harness, prompt_of(12));                   // 4 for 13
  EXPECT_EQ(pages.code, ErrorCode::kOutOfMemory);
  EXPECT_NE(pages.message.find("needs 4 KV pages, but 3 of 10 are free"), std::string::npos);
  ASSERT_TRUE(harness.engine->start(prompt_of(11), {}));  // 3 for 12
  const Error sessions = start_error(harness, prompt_of(1));
  EXPECT_EQ(sessions.code, ErrorCode::kOutOfMemory);
  EXPECT_NE(sessions.message.find("all 2 sessions are in use"), std::string::npos);
  harness.engine->cancel(first);
  EXPECT_TRUE(harness.engine->start(prompt_of(12), {}));
}

TEST(ProgramEngine, TheLongestPromptGivesOneToken) {
  Harness harness({.max_context = 32, .max_sessions = 1, .num_kv_pages = 8});
  const auto prompt = prompt_of(31);
  const SessionId id = harness.engine->start(prompt, {}).value();
  ASSERT_TRUE(harness.run_until_idle());
  EXPECT_EQ(harness.transcripts[id].tokens.size(), 1u);
  EXPECT_EQ(harness.transcripts[id].finished, FinishReason::kLength);
}

// Allows everything until `num_tokens` are there, and nothing then.
class Exhausted final : public TokenConstraint {
 public:
  explicit Exhausted(size_t num_tokens) : num_left_(num_tokens) {}
  void mask(std::span<const int32_t> drafts, std::span<uint64_t> words) override {
    if (drafts.size() < num_left_) return;
    // Of the ids that there are: a mask's last word has bits beyond them.
    for (size_t id = 0; id < FakeExecutor::kVocabSize; ++id) {
      words[id / 64] &= ~(uint64_t{1} << id % 64);
    }
  }
  void advance(int32_t) override { --num_left_; }
  std::unique_ptr<TokenConstraint> clone() const override {
    return std::make_unique<Exhausted>(*this);
  }

 private:
  size_t num_left_;
};

TEST(ProgramEngine, AConstraintThatAllowsNothingEndsItsSessionAlone) {
  for (const uint32_t tokens_per_cycle : {1u, 2u, 3u, 4u}) {
    for (const size_t num_allowed : {0u, 1u, 4u, 5u}) {
      HarnessOptions options;
      options.drafter = {DrafterKind::kReplay, tokens_per_cycle};
      options.block_size = 4;
      Harness harness(options);
      const std::vector<int32_t> prompt = prompt_of(9);
      GenerationParams free;
      free.max_tokens = 12;
      free.expected_output = expected_transcript(prompt, free, 64).tokens;
      const Exhausted constraint(num_allowed);
      GenerationParams bound = free;
      bound.sampling.constraint = &constraint;
      const SessionId ends = harness.engine->start(prompt, bound).value();
      const SessionId goes_on = harness.engine->start(prompt, free).value();
      ASSERT_TRUE(harness.run_until_idle());
      const Transcript whole = expected_transcript(prompt, free, 64);
      EXPECT_EQ(harness.transcripts[goes_on], whole);
      const Transcript& ended = harness.transcripts[ends];
      EXPECT_EQ(ended.finished, FinishReason::kConstraint);
      EXPECT_TRUE(std::ranges::equal(ended.tokens, std::span(whole.tokens).first(num_allowed)));
      EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
    }
  }
}

TEST(ProgramEngine, AStepThatOnlyEndsSessionsRunsNothing) {
  Harness harness({.max_context = 32, .max_sessions = 1, .num_kv_pages = 1});
  ASSERT_TRUE(harness.engine->start(prompt_of(3), {}));
  while (harness.executor->steps.size() < 2) ASSERT_TRUE(harness.step());  // positions 0 to 3
  ASSERT_TRUE(harness.step());
  EXPECT_EQ(harness.executor->steps.size(), 2u);
  ASSERT_EQ(harness.last_events.size(), 1u);
  EXPECT_FALSE(harness.last_events[0].token);
  EXPECT_EQ(harness.last_events[0].finished, FinishReason::kLength);
  EXPECT_EQ(harness.last_events[0].prompt_tokens_done, 3u);
  EXPECT_TRUE(harness.engine->idle());
  ASSERT_TRUE(harness.step());
  EXPECT_TRUE(harness.last_events.empty());
}

TEST(ProgramEngine, PrefillAndDecodeAlternate) {
  Harness harness;
  ASSERT_TRUE(harness.engine->start(prompt_of(4), {}));
  ASSERT_TRUE(harness.step());
  ASSERT_TRUE(harness.engine->start(prompt_of(32, 3), {}));
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(harness.step());
  std::string turns;
  for (const auto& step : harness.executor->steps) turns += step.program == 0 ? 'd' : 'p';
  EXPECT_TRUE(turns == "ppdpdpdpd" || turns == "pdpdpdpdp") << turns;
}

TEST(ProgramEngine, MoreSessionsThanColumnsShareThemFairly) {
  Harness harness({.decode_width = 3, .max_sessions = 7, .num_kv_pages = 200});
  std::vector<SessionId> ids;
  for (int32_t i = 0; i < 7; ++i) {
    ids.push_back(harness.engine->start(prompt_of(3, i), {}).value());
  }
  for (int i = 0; i < 14; ++i) ASSERT_TRUE(harness.step());  // all prompts are done
  auto before = harness.transcripts;
  for (int i = 0; i < 28; ++i) {
    ASSERT_TRUE(harness.step());
    EXPECT_EQ(harness.last_events.size(), 3u);
    std::vector<size_t> served;
    for (const SessionId id : ids) {
      served.push_back(harness.transcripts[id].tokens.size() - before[id].tokens.size());
    }
    const auto [least, most] = std::ranges::minmax(served);
    EXPECT_LE(most - least, 1u);
  }
}

TEST(ProgramEngine, CancelEndsASessionAtOnce) {
  Harness harness;
  const SessionId first = harness.engine->start(prompt_of(20), {}).value();
  const SessionId second = harness.engine->start(prompt_of(5), limited_to(4)).value();
  EXPECT_NE(first, second);
  ASSERT_TRUE(harness.step());
  harness.engine->cancel(first);
  harness.engine->cancel(first);
  harness.engine->cancel(999);
  ASSERT_TRUE(harness.run_until_idle());
  EXPECT_TRUE(harness.transcripts[first].tokens.empty());
  EXPECT_EQ(harness.transcripts[second], expected_transcript(prompt_of(5), limited_to(4), 64));
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
  EXPECT_GT(harness.engine->start(prompt_of(5), {}).value(), second);
}

TEST(ProgramEngine, AnErrorEndsTheSessionsAndLeavesTheEngineUsable) {
  Harness harness;
  ASSERT_TRUE(harness.engine->start(prompt_of(5), {}));
  ASSERT_TRUE(harness.engine->start(prompt_of(6), {}));
  ASSERT_TRUE(harness.step());
  harness.executor->next_error = Error{ErrorCode::kInvalidData, "a logit is NaN"};
  const Status status = harness.step();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "a logit is NaN");
  EXPECT_TRUE(harness.engine->idle());
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
  const SessionId id = harness.engine->start(prompt_of(5), limited_to(4)).value();
  ASSERT_TRUE(harness.run_until_idle());
  EXPECT_EQ(harness.transcripts[id], expected_transcript(prompt_of(5), limited_to(4), 64));
}

TEST(ProgramEngine, AnInternalErrorIsForGood) {
  Harness harness;
  ASSERT_TRUE(harness.engine->start(prompt_of(5), {}));
  harness.executor->next_error = Error{ErrorCode::kInternal, "worker 3 passed its deadline"};
  EXPECT_FALSE(harness.step());
  EXPECT_TRUE(harness.engine->idle());
  EXPECT_EQ(start_error(harness, {1}).message, "worker 3 passed its deadline");
  EXPECT_EQ(harness.step().error().message, "worker 3 passed its deadline");
  EXPECT_EQ(harness.engine->score(prompt_of(3), {}).error().message,
            "worker 3 passed its deadline");
}

TEST(ProgramEngine, NonsenseFromTheExecutorIsAnInternalError) {
  for (const int32_t token_id : {-1, 97}) {
    Harness harness;
    ASSERT_TRUE(harness.engine->start(prompt_of(5), {}));
    harness.executor->next_token_id = token_id;
    const Status status = harness.step();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kInternal);
    EXPECT_NE(status.error().message.find("after position 4, expected 0 to 96"), std::string::npos);
  }
  Harness harness;
  ASSERT_TRUE(harness.engine->start(prompt_of(5), {}));
  harness.executor->drops_a_column = true;
  EXPECT_EQ(harness.step().error().message, "the executor returned 4 columns of 5");
}

TEST(ProgramEngine, ALoadThatFailsGivesNoEngine) {
  auto executor = std::make_unique<FakeExecutor>();
  executor->next_error = Error{ErrorCode::kIo, "the file is gone"};
  const auto engine = ProgramEngine::make(FakeExecutor::make_programs(1, 1, 4), std::move(executor),
                                          {97, 8, {1, 2}}, {});
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().message, "the file is gone");
}

TEST(ProgramEngine, ScoresEveryTokenGivenThoseBefore) {
  Harness harness({.max_context = 32, .num_kv_pages = 8});
  for (const size_t size : {1u, 2u, 8u, 9u, 17u, 32u}) {
    const auto tokens = prompt_of(size, 40);
    std::vector<uint32_t> progress;
    const auto logprobs =
        harness.engine->score(tokens, [&](uint32_t done) { progress.push_back(done); });
    ASSERT_TRUE(logprobs);
    ASSERT_EQ(logprobs->size(), size - 1);
    for (size_t i = 0; i + 1 < size; ++i) {
      EXPECT_EQ((*logprobs)[i],
                FakeExecutor::logprob(std::span(tokens).first(i + 1), tokens[i + 1]));
    }
    if (size == 17) {
      EXPECT_EQ(progress, (std::vector<uint32_t>{8, 16}));
    }
    EXPECT_EQ(harness.engine->kv_pages().num_free(), 8u);
  }
  EXPECT_TRUE(harness.engine->score(prompt_of(3), nullptr));
}

TEST(ProgramEngine, ScoreRefusesWhatItCannotDo) {
  Harness harness({.max_context = 32});
  EXPECT_FALSE(harness.engine->score({}, {}));
  EXPECT_FALSE(harness.engine->score(std::vector<int32_t>{1, -1}, {}));
  EXPECT_NE(harness.engine->score(prompt_of(33), {}).error().message.find("expected at most 32"),
            std::string::npos);
  const SessionId id = harness.engine->start(prompt_of(3), {}).value();
  const auto active = harness.engine->score(prompt_of(3), {});
  EXPECT_EQ(active.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(active.error().message.find("a session is active"), std::string::npos);
  harness.engine->cancel(id);
  harness.executor->next_error = Error{ErrorCode::kInvalidData, "a logit is NaN"};
  EXPECT_EQ(harness.engine->score(prompt_of(3), {}).error().message, "a logit is NaN");
  EXPECT_TRUE(harness.engine->score(prompt_of(3), {}));
  EXPECT_EQ(harness.engine->kv_pages().num_free(), 64u);
}

}  // namespace
}  // namespace ultraspeed::engine
