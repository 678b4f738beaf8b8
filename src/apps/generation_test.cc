#include "apps/generation.h"

#include <gtest/gtest.h>

#include "server/fake_engine.h"

namespace ultraspeed::apps {
namespace {

const text::Tokenizer& tokenizer() {
  static const auto result =
      text::Tokenizer::load(US_SOURCE_DIR "/models/tiny-mimo/tokenizer.json");
  return result.value();
}

constexpr int32_t kEndId = 2;

class GenerationTest : public testing::Test {
 protected:
  // The engine will generate this text and then the stop token.
  void script(const std::string& text) {
    engine_.reply = tokenizer().encode(text).value();
    engine_.reply.push_back(kEndId);
    request_.prompt = {10, 11, 12};
    request_.params.stop_ids = {kEndId};
    request_.params.max_tokens = 1000;
  }

  Result<GenerationResult> run() {
    GenerationObserver observer;
    observer.on_text = [this](std::string_view text) {
      streamed_ += text;
      return Status();
    };
    observer.should_stop = [this] { return streamed_.size() >= interrupt_at_; };
    return generate(engine_, &tokenizer(), request_, observer);
  }

  server::FakeEngine engine_;
  GenerationRequest request_;
  std::string streamed_;
  size_t interrupt_at_ = std::string::npos;
};

TEST_F(GenerationTest, TextEndsWithTheStopTokenWhichIsNotShown) {
  script("Grüße, 世界! 🙂 done");
  const auto result = run();
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->text, "Grüße, 世界! 🙂 done");
  EXPECT_EQ(streamed_, result->text);
  EXPECT_EQ(result->end, GenerationEnd::kStop);
  EXPECT_EQ(result->tokens.size(), engine_.reply.size());
  EXPECT_EQ(result->tokens.back().id, kEndId);
  EXPECT_EQ(result->speculation.num_cycles(), engine_.reply.size() - 1);
  EXPECT_EQ(engine_.num_active(), 0u);
}

TEST_F(GenerationTest, StopStringsCutTextInWhateverTokensItComes) {
  const std::string text = "alpha beta gamma delta epsilon zeta";
  for (const char* stop : {"gamma", "mma del", "a g", "x", "zeta", "alpha"}) {
    for (const size_t tokens_per_step : {size_t{1}, size_t{3}}) {
      script(text);
      streamed_.clear();
      engine_.tokens_per_step = tokens_per_step;
      request_.stop = {stop};
      const auto result = run();
      ASSERT_TRUE(result) << result.error().message;
      const size_t at = text.find(stop);
      EXPECT_EQ(result->text, text.substr(0, at)) << stop;
      EXPECT_EQ(streamed_, result->text);
      EXPECT_EQ(result->end, GenerationEnd::kStop);
      EXPECT_EQ(engine_.num_active(), 0u);
    }
  }
}

TEST_F(GenerationTest, MarkersStayAndOtherSpecialTokensGoUnlessShown) {
  script("<think>a</think><|im_start|>b");
  EXPECT_EQ(run()->text, "<think>a</think>b");
  request_.show_special = true;
  EXPECT_EQ(run()->text, "<think>a</think><|im_start|>b");
}

TEST_F(GenerationTest, MaxTokensEndIt) {
  script("one two three four five six");
  request_.params.max_tokens = 3;
  const auto result = run();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->tokens.size(), 3u);
  EXPECT_EQ(result->end, GenerationEnd::kLength);
}

TEST_F(GenerationTest, AnInterruptCancelsTheSessionAndShowsWhatWasHeldBack) {
  script("one two three four five six");
  request_.stop = {"three four seven"};  // " three four" is held back as its possible beginning
  interrupt_at_ = 7;
  const auto result = run();
  ASSERT_TRUE(result);
  EXPECT_EQ(result->end, GenerationEnd::kInterrupted);
  EXPECT_TRUE(result->text.starts_with("one two"));
  EXPECT_EQ(streamed_, result->text);
  EXPECT_EQ(engine_.num_active(), 0u);
}

TEST_F(GenerationTest, WithoutATokenizerTheTextIsTheIds) {
  engine_.reply = {7, 300, kEndId};
  request_.prompt = {1};
  request_.params.stop_ids = {kEndId};
  const auto result = generate(engine_, nullptr, request_, {});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->text, "7 300");
  request_.stop = {"x"};
  EXPECT_EQ(generate(engine_, nullptr, request_, {}).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(GenerationTest, ErrorsOfEngineAndOutputEndIt) {
  script("one two");
  engine_.start_error = Error{ErrorCode::kInvalidArgument, "refused"};
  EXPECT_EQ(run().error().message, "refused");
  engine_.start_error.reset();
  const GenerationObserver full_disk{
      .on_text = [](std::string_view) -> Status { return make_error(ErrorCode::kIo, "full"); },
      .on_step = {},
      .should_stop = {}};
  EXPECT_EQ(generate(engine_, &tokenizer(), request_, full_disk).error().message, "full");
  EXPECT_EQ(engine_.num_active(), 0u);
  engine_.fails_steps = true;
  EXPECT_FALSE(run());
}

TEST_F(GenerationTest, CountsTheTokensOfEachCycle) {
  script("one two three four five six seven");
  engine_.tokens_per_step = 3;
  const auto result = run();
  ASSERT_TRUE(result);
  const size_t num_tokens = engine_.reply.size();
  EXPECT_EQ(result->tokens.size(), num_tokens);
  EXPECT_EQ(result->speculation.num_cycles(), (num_tokens + 2) / 3 - 1);
}

TEST_F(GenerationTest, LeavesOutTheTokensOfACycleBehindAStopString) {
  script("one two three four five six seven");
  engine_.tokens_per_step = 3;
  for (const char* stop : {"three", "four", "five", "six"}) {
    request_.stop = {stop};
    const auto result = run();
    ASSERT_TRUE(result);
    EXPECT_EQ(result->speculation.num_tokens(), result->tokens.size() - 3) << stop;  // the prefill
  }
}

TEST(DescribeSpeed, CountsTheTokensAfterTheFirstForTheRate) {
  GenerationResult result;
  result.tokens.resize(11);
  result.end = GenerationEnd::kStop;
  result.times = {.prefill_ms = 40, .decode_ms = 200};
  EXPECT_EQ(describe_speed(result, 7),
            "7 prompt tokens in 40 ms, 11 tokens in 0.24 s: 50.0 tokens per second (stop)");
  result.speculation.add({.num_drafts = 3, .num_accepted = 2, .num_tokens = 3});
  EXPECT_EQ(describe_speed(result, 7),
            "7 prompt tokens in 40 ms, 11 tokens in 0.24 s: 50.0 tokens per second, accepted "
            "length 3.00 (stop)");
  result.speculation = {};
  result.tokens.resize(1);
  EXPECT_EQ(describe_speed(result, 7), "7 prompt tokens in 40 ms, 1 tokens (stop)");
}

}  // namespace
}  // namespace ultraspeed::apps
