#include "apps/score.h"

#include <gtest/gtest.h>

namespace ultraspeed::apps {
namespace {

// "Scores" each token as -(1000 * its context's length + the token), so that a result shows what
// the token was scored with.
class ScoringEngine final : public engine::Engine {
 public:
  Result<engine::SessionId> start(std::span<const int32_t>,
                                  const engine::GenerationParams&) override {
    return make_error(ErrorCode::kUnsupported, "only scores");
  }
  Result<engine::SessionId> fork(engine::SessionId, uint64_t) override {
    return make_error(ErrorCode::kUnsupported, "not here");
  }
  Status step(std::vector<engine::StepEvent>*) override { return {}; }
  void cancel(engine::SessionId) override {}
  bool idle() const override { return true; }
  Result<std::vector<float>> score(std::span<const int32_t> tokens,
                                   const std::function<void(uint32_t)>& progress) override {
    if (fails) return make_error(ErrorCode::kInternal, "broken");
    num_scored += tokens.size();
    std::vector<float> logprobs;
    for (size_t i = 1; i < tokens.size(); ++i) {
      logprobs.push_back(-static_cast<float>(1000 * i + static_cast<size_t>(tokens[i])));
      progress(static_cast<uint32_t>(i));
    }
    return logprobs;
  }
  uint32_t max_context() const override { return 100; }
  std::string_view device() const override { return "none"; }
  const std::vector<program::Program>& programs() const override { return programs_; }

  bool fails = false;
  size_t num_scored = 0;

 private:
  std::vector<program::Program> programs_;
};

std::vector<int32_t> counting(int32_t count) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back(i);
  return tokens;
}

TEST(ScoreTokens, AShortTextIsOneWindow) {
  ScoringEngine engine;
  std::vector<size_t> progress;
  const auto nll = score_tokens(engine, counting(5), {.window = 5, .stride = 2},
                                [&progress](size_t done) { progress.push_back(done); });
  ASSERT_TRUE(nll) << nll.error().message;
  EXPECT_EQ(*nll, (std::vector<float>{1001, 2002, 3003, 4004}));
  EXPECT_EQ(engine.num_scored, 5u);
  EXPECT_EQ(progress, (std::vector<size_t>{1, 2, 3, 4}));
}

TEST(ScoreTokens, EveryTokenIsScoredOnceWithTheOverlapAsContext) {
  for (uint32_t window = 2; window <= 12; ++window) {
    for (uint32_t stride = 1; stride < window; ++stride) {
      ScoringEngine engine;
      size_t last_progress = 0;
      const auto nll = score_tokens(engine, counting(40), {.window = window, .stride = stride},
                                    [&last_progress](size_t done) {
                                      EXPECT_GE(done, last_progress);
                                      last_progress = done;
                                    });
      ASSERT_TRUE(nll) << nll.error().message;
      ASSERT_EQ(nll->size(), 39u);
      EXPECT_EQ(last_progress, 39u);
      for (int i = 0; i < 39; ++i) {
        const int token = i + 1;
        const int value = static_cast<int>((*nll)[static_cast<size_t>(i)]);
        EXPECT_EQ(value % 1000, token) << "window " << window << ", stride " << stride;
        const int context = value / 1000;
        const int least = static_cast<int>(window - stride);
        EXPECT_GE(context, std::min(token, least)) << "window " << window << ", stride " << stride;
        EXPECT_LT(context, static_cast<int>(window));
      }
    }
  }
}

TEST(ScoreTokens, Errors) {
  ScoringEngine engine;
  const auto ignore = [](size_t) {};
  const ScoreWindows windows{.window = 8, .stride = 4};
  for (const int32_t count : {0, 1}) {
    EXPECT_EQ(score_tokens(engine, counting(count), windows, ignore).error().code,
              ErrorCode::kInvalidArgument);
  }
  engine.fails = true;
  EXPECT_EQ(score_tokens(engine, counting(9), windows, ignore).error().message, "broken");
}

TEST(MeanOf, IsExactForWhatFloatsCannotSum) {
  EXPECT_EQ(mean_of({}), 0);
  EXPECT_EQ(mean_of(std::vector<float>{1, 2, 6}), 3);
  std::vector<float> values(4, 0.25F);
  values.push_back(16777216);
  EXPECT_EQ(mean_of(values), 16777217.0 / 5);
}

}  // namespace
}  // namespace ultraspeed::apps
