// Engine::features over the fake executor: which steps run, what the sink gets, and what is
// refused.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "engine/engine_harness.h"

namespace ultraspeed::engine {
namespace {

constexpr uint32_t kHiddenSize = 3;

// An engine whose prefill program, 8 columns wide, gives two residuals.
class FeaturesTest : public testing::Test {
 protected:
  FeaturesTest() {
    auto owned = std::make_unique<FakeExecutor>();
    executor_ = owned.get();
    auto programs = FakeExecutor::make_programs(4, 8, 4);
    programs[ProgramEngine::kPrefill].hidden_size = kHiddenSize;
    programs[ProgramEngine::kPrefill].captured = {5, 2};
    const EngineSettings settings{FakeExecutor::kVocabSize, 32, {2, 16}, {}, 1};
    engine_ =
        std::move(ProgramEngine::make(std::move(programs), std::move(owned), settings, {})).value();
  }

  // What a sink was given, in order.
  struct Piece {
    uint32_t begin = 0, count = 0;
    std::vector<std::vector<float>> residuals;
  };

  Status capture(const std::vector<int32_t>& tokens) {
    pieces_.clear();
    return engine_->features(tokens, [&](uint32_t begin, uint32_t count, auto residuals) -> Status {
      Piece piece{begin, count, {}};
      for (const auto& residual : residuals) {
        piece.residuals.emplace_back(residual.begin(), residual.end());
      }
      pieces_.push_back(std::move(piece));
      return {};
    });
  }

  FakeExecutor* executor_;
  std::unique_ptr<ProgramEngine> engine_;
  std::vector<Piece> pieces_;
};

TEST_F(FeaturesTest, ReadsEveryResidualAfterEachStep) {
  const auto tokens = prompt_of(11);
  ASSERT_TRUE(capture(tokens));
  ASSERT_EQ(executor_->steps.size(), 2u);
  ASSERT_EQ(pieces_.size(), 2u);
  for (size_t step = 0; step < 2; ++step) {
    const auto& columns = executor_->steps[step].columns;
    EXPECT_EQ(executor_->steps[step].program, ProgramEngine::kPrefill);
    ASSERT_EQ(columns.size(), (std::vector<size_t>{8, 3})[step]);
    EXPECT_EQ(pieces_[step].begin, 8 * step);
    EXPECT_EQ(pieces_[step].count, columns.size());
    ASSERT_EQ(pieces_[step].residuals.size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      // The fake's residuals tell buffer and step.
      const std::vector<float> expected(columns.size() * kHiddenSize,
                                        FakeExecutor::residual(i == 0 ? 5 : 2, step + 1));
      EXPECT_EQ(pieces_[step].residuals[i], expected) << step << ", " << i;
    }
    for (size_t c = 0; c < columns.size(); ++c) {
      EXPECT_EQ(columns[c].token_id, tokens[8 * step + c]);
      EXPECT_EQ(columns[c].position, 8 * step + c);
      EXPECT_FALSE(columns[c].wants_logits);
    }
  }
  EXPECT_EQ(engine_->kv_pages().num_free(), 16u);
}

TEST_F(FeaturesTest, ATextFillsTheContextAndNoMore) {
  EXPECT_TRUE(capture(prompt_of(32)));
  EXPECT_EQ(pieces_.size(), 4u);
  const Status longer = capture(prompt_of(33));
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(longer.error().message.find("33 tokens, expected at most 32"), std::string::npos);
  EXPECT_FALSE(capture({}));
  EXPECT_FALSE(capture({1, 97}));
  EXPECT_TRUE(pieces_.empty());
}

TEST_F(FeaturesTest, RunsAlone) {
  const SessionId id = engine_->start(prompt_of(3), {}).value();
  const Status active = capture(prompt_of(3));
  ASSERT_FALSE(active);
  EXPECT_EQ(active.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(active.error().message.find("a session is active"), std::string::npos);
  engine_->cancel(id);
  EXPECT_TRUE(capture(prompt_of(3)));
}

TEST_F(FeaturesTest, ErrorsOfExecutorAndSinkEndTheText) {
  executor_->next_error = Error{ErrorCode::kInvalidData, "a logit is NaN"};
  EXPECT_EQ(capture(prompt_of(20)).error().message, "a logit is NaN");
  const size_t steps_before = executor_->steps.size();
  const auto full = [](uint32_t, uint32_t, auto) -> Status {
    return make_error(ErrorCode::kIo, "the disk is full");
  };
  EXPECT_EQ(engine_->features(prompt_of(20), full).error().message, "the disk is full");
  EXPECT_EQ(executor_->steps.size(), steps_before + 1);
  EXPECT_EQ(engine_->kv_pages().num_free(), 16u);
  EXPECT_TRUE(capture(prompt_of(20)));
}

TEST(Features, AreRefusedWithoutCapturedLayers) {
  Harness harness;
  const auto ignore = [](uint32_t, uint32_t, auto) -> Status { return {}; };
  const Status status = harness.engine->features(prompt_of(3), ignore);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(status.error().message, "this engine captures no residuals");
  EXPECT_TRUE(harness.executor->steps.empty());
}

}  // namespace
}  // namespace ultraspeed::engine
