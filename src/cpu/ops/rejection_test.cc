// What rejection sampling does with one draft: the law of whole texts is speculation_law_test.cc's.
#include "cpu/ops/rejection.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

constexpr uint32_t kNumTokens = 5;

using Row = std::array<float, kNumTokens>;

program::ColumnSampling warm_sampling(uint64_t seed) {
  program::ColumnSampling sampling;
  sampling.temperature = 0.8F;
  sampling.seed = seed;
  return sampling;
}

TEST(AcceptOrRecover, AcceptsByTheRatio) {
  const std::vector<double> p = {0.2, 0.8, 0};
  const std::vector<double> q = {0.4, 0.1, 0.5};
  const auto noise = [](uint32_t) { return 0.0; };
  EXPECT_TRUE(accept_or_recover(p, q, 0, 0.49, noise).is_accepted);
  EXPECT_FALSE(accept_or_recover(p, q, 0, 0.51, noise).is_accepted);
  EXPECT_TRUE(accept_or_recover(p, q, 1, 0.999, noise).is_accepted);
  const DraftVerdict verdict = accept_or_recover(p, q, 2, 1e-9, noise);
  EXPECT_FALSE(verdict.is_accepted);
  EXPECT_EQ(verdict.token_id, 1u);  // the only one that p has more of
}

TEST(AcceptOrRecover, RecoversByThePartThatTheDrafterLacks) {
  const std::vector<double> p = {0.5, 0.3, 0.2};
  const std::vector<double> q = {1, 0, 0};
  const auto noise_for = [](uint32_t lucky) {
    return [lucky](uint32_t id) { return id == lucky ? 1.0 : 0.0; };
  };
  EXPECT_EQ(accept_or_recover(p, q, 0, 0.9, noise_for(2)).token_id, 2u);  // 0.2 e > 0.3
  EXPECT_EQ(accept_or_recover(p, q, 0, 0.9, noise_for(0)).token_id, 1u);  // never the draft
}

TEST(ProposedToken, HasNoEffectWithoutChance) {
  const Row logits = {0, 3, 1, 2, 0};
  program::ColumnSampling sampling;
  for (const int32_t proposed : {-1, 0, 1, 4}) {
    sampling.proposed_token_id = proposed;
    EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 1);
  }
  sampling.forced_token_id = 3;
  EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 3);
}

TEST(ProposedToken, IsRefusedWhereTruncatedAndTakenWhereAlone) {
  const Row logits = {0, 3, 1, 2, 0};
  for (uint64_t seed = 0; seed < 100; ++seed) {
    program::ColumnSampling sampling = warm_sampling(seed);
    sampling.top_k = 1;
    sampling.proposed_token_id = 3;
    EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 1);
    sampling.proposed_token_id = 1;
    EXPECT_EQ(sample_column(logits, 7, sampling)->token_id, 1);
  }
}

TEST(ProposedToken, IsOneOfTheVocabulary) {
  program::ColumnSampling sampling = warm_sampling(1);
  sampling.proposed_token_id = kNumTokens;
  const auto output = sample_column(Row{}, 7, sampling);
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(output.error().message.find("proposed token is 5, expected 0 to 4"), std::string::npos);
}

TEST(DrawnDraft, IsTakenWhereTargetAndDrafterAgree) {
  const Row logits = {0, 3, 1, 2, 0};
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const program::ColumnSampling sampling = warm_sampling(seed);
    const DrawnDraft draft{logits, draw_draft(logits, 7, sampling)};
    EXPECT_EQ(sample_column(logits, 7, sampling, &draft)->token_id,
              static_cast<int32_t>(draft.token_id));
  }
}

// Neither the adjustments nor the mask are the drafter's: what they forbid is drawn, and refused.
TEST(DrawnDraft, IsRefusedWhereForbidden) {
  const Row logits = {0, 0, 0, 0, 40};
  const std::vector<uint64_t> allowed = {0b01111};
  std::array<uint32_t, kNumTokens> counts = {};
  for (uint64_t seed = 0; seed < 400; ++seed) {
    program::ColumnSampling sampling = warm_sampling(seed);
    sampling.allowed = allowed;
    const DrawnDraft draft{logits, draw_draft(logits, 7, sampling)};
    EXPECT_EQ(draft.token_id, 4u);
    ++counts.at(static_cast<size_t>(sample_column(logits, 7, sampling, &draft)->token_id));
  }
  EXPECT_EQ(counts[4], 0u);
  for (size_t id = 0; id < 4; ++id) EXPECT_GT(counts[id], 60u);  // of 100
}

TEST(DrawnDraft, HasNoEffectWithoutChanceOrChoice) {
  const Row logits = {0, 3, 1, 2, 0};
  const Row drafter = {9, 0, 0, 0, 0};
  const DrawnDraft draft{drafter, 0};
  program::ColumnSampling sampling;
  EXPECT_EQ(sample_column(logits, 7, sampling, &draft)->token_id, 1);
  sampling = warm_sampling(5);
  sampling.forced_token_id = 3;
  EXPECT_EQ(sample_column(logits, 7, sampling, &draft)->token_id, 3);
}

TEST(DrawnDraft, OfADrafterWithoutNumbersIsAnError) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Row logits = {0, 3, 1, 2, 0};
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    Row drafter;
    drafter.fill(-kInfinity);
    drafter[2] = bad;
    const program::ColumnSampling sampling = warm_sampling(1);
    const DrawnDraft draft{drafter, draw_draft(drafter, 7, sampling)};
    const auto output = sample_column(logits, 7, sampling, &draft);
    ASSERT_FALSE(output);
    EXPECT_EQ(output.error().code, ErrorCode::kInvalidData);
    EXPECT_TRUE(output.error().message.starts_with(
        "sampling after position 7: the drafter's logit of token "))
        << output.error().message;
  }
}

}  // namespace
}  // namespace ultraspeed::cpu
