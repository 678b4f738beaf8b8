// What a drafter asks of the operations beyond a target's use: masks and drafted tokens, features
// of several inputs, projections of k and v alone with normalised heads, a choice.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/ops/op_harness.h"
#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

// Three columns of one sequence from position 7 on, of which the last two are drafted.
void add_block(OpHarness* harness) {
  for (uint32_t i = 0; i < 3; ++i) {
    program::Column& column = harness->column(1, 7 + i);
    column.is_drafted = i > 0;
    column.wants_logits = true;
  }
}

std::vector<float> copy(OpHarness* harness, program::BufferId id, size_t count) {
  const float* values = harness->values(id);
  return {values, values + count};
}

TEST(Embed, TakesMasksOrWhatWasDrafted) {
  OpHarness harness(4, 2);
  program::EmbedOperands op;
  op.table = harness.weight(4, 2, {0, 1, 10, 11, 20, 21, 30, 31});
  const auto mask = harness.weight(1, 2, {-1, -2});
  op.hidden = harness.buffer(std::vector<float>(8, NAN));
  const auto drafted = harness.buffer(std::vector<float>(4, 0));
  op.mask_token_id = 3;
  add_block(&harness);
  harness.load();
  ASSERT_TRUE(harness.run(op, 0, 2));
  EXPECT_EQ(copy(&harness, op.hidden, 6), (std::vector<float>{10, 11, 30, 31, 30, 31}));
  op.mask = mask;
  ASSERT_TRUE(harness.run(op, 0, 2));
  EXPECT_EQ(copy(&harness, op.hidden, 6), (std::vector<float>{10, 11, -1, -2, -1, -2}));
  op.drafted = drafted;
  harness.words(drafted)[1] = 2;
  ASSERT_TRUE(harness.run(op, 0, 2));
  EXPECT_EQ(copy(&harness, op.hidden, 6), (std::vector<float>{10, 11, 20, 21, 0, 1}));
}

TEST(Linear, JoinsItsInputs) {
  OpHarness harness(2, 2);
  program::LinearOperands op;
  op.weight = harness.weight(2, 6, {1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 1});
  op.input = harness.buffer({1, 2, 0, 0});
  op.more_inputs[0] = harness.buffer({3, 4, 0, 1});
  op.more_inputs[1] = harness.buffer({5, 6, 0, 7});
  op.output = harness.buffer(std::vector<float>(4, NAN));
  op.rows = op.total_rows = 2;
  op.broadcast = 1;
  harness.column(0, 0);
  harness.column(0, 1);
  harness.load();
  ASSERT_TRUE(harness.run(op, 0, 2));
  EXPECT_EQ(copy(&harness, op.output, 4),
            (std::vector<float>{1 + 4 + 9 + 16 + 25 + 36, 6, 4 + 42, 7}));
}

TEST(Linear, SkipsColumnsThatAreNotDrafted) {
  OpHarness harness(3, 1);
  program::LinearOperands op;
  op.weight = harness.weight(1, 1, {2});
  op.input = harness.buffer({1, 2, 3});
  op.output = harness.buffer({-1, -1, -1});
  op.rows = op.total_rows = 1;
  op.drafted_only = 1;
  add_block(&harness);
  harness.load();
  ASSERT_TRUE(harness.run(op, 0, 1));
  EXPECT_EQ(copy(&harness, op.output, 3), (std::vector<float>{-1, 4, 6}));
}

TEST(Propose, ChoosesTheLargestAndTheLowerOfEquals) {
  OpHarness harness(3, 1);
  program::ProposeOperands op;
  op.logits = harness.buffer({9, 9, 9, 1, 5, 3, 2, 7, 7});
  op.drafted = harness.buffer({0, 0, 0});
  op.vocab_size = 3;
  add_block(&harness);
  harness.load();
  harness.words(op.drafted)[0] = 77;
  ASSERT_TRUE(harness.run(op, 0, 3));
  EXPECT_EQ(harness.words(op.drafted)[0], 77u);  // the anchor
  EXPECT_EQ(harness.words(op.drafted)[1], 1u);
  EXPECT_EQ(harness.words(op.drafted)[2], 1u);
}

// By the parameters, the seed and the position of the column before, with the drafter's row of the
// column itself; the other columns take the likeliest.
TEST(Propose, DrawsWhereTheColumnBeforeSaysSo) {
  OpHarness harness(3, 1);
  program::ProposeOperands op;
  const std::vector<float> logits = {9, 9, 9, 1, 2, 1.5F, 1, 1.1F, 1.2F};
  op.logits = harness.buffer(logits);
  op.drafted = harness.buffer({0, 0, 0});
  op.vocab_size = 3;
  add_block(&harness);
  harness.load();
  const std::span<const float> row(logits.data() + 3, 3);
  uint32_t num_likeliest = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    program::ColumnSampling& sampling = harness.column_at(0).sampling;
    sampling.seed = seed;
    sampling.temperature = 2;
    sampling.draws_draft = true;
    ASSERT_TRUE(harness.run(op, 0, 3));
    const uint32_t drawn = harness.words(op.drafted)[1];
    EXPECT_EQ(drawn, draw_draft(row, 7, sampling));
    EXPECT_EQ(harness.words(op.drafted)[2], 2u);
    num_likeliest += drawn == 1 ? 1 : 0;
    sampling.temperature = 0;
    ASSERT_TRUE(harness.run(op, 0, 3));
    EXPECT_EQ(harness.words(op.drafted)[1], 1u);
  }
  EXPECT_GT(num_likeliest, 20u);
  EXPECT_LT(num_likeliest, 65u);
}

// The drafter's row of the next column, if that was drafted and drawn; else the keyed choice.
TEST(Sample, VerifiesWhatWasDrawnForTheNextColumn) {
  OpHarness harness(3, 1);
  const std::vector<float> logits = {1, 1.3F, 1.2F, 1, 2, 1, 0.5F, 1, 0.8F};
  const std::vector<float> draft_logits = {NAN, NAN, NAN, 3, 1, 2, 0, 1, 2};
  program::SampleOperands op;
  op.logits = harness.buffer(logits);
  op.draft_logits = harness.buffer(draft_logits);
  op.drafted = harness.buffer({0, 0, 0});
  op.sampled = harness.buffer({0, 0, 0});
  op.vocab_size = 3;
  add_block(&harness);
  harness.load();
  const auto row = [](const std::vector<float>& rows, size_t t) {
    return std::span(rows).subspan(3 * t, 3);
  };
  uint32_t num_unlike_keyed = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint32_t t = 0; t < 3; ++t) {
      program::ColumnSampling& sampling = harness.column_at(t).sampling;
      sampling.seed = seed;
      sampling.temperature = 1;
      sampling.draws_draft = t != 1;
    }
    const auto choice = [&](uint32_t t, const DrawnDraft* draft) {
      const auto& sampling = harness.column_at(t).sampling;
      return static_cast<uint32_t>(sample_column(row(logits, t), 7 + t, sampling, draft)->token_id);
    };
    const DrawnDraft draft{row(draft_logits, 1),
                           draw_draft(row(draft_logits, 1), 7, harness.column_at(0).sampling)};
    harness.words(op.drafted)[1] = draft.token_id;
    ASSERT_TRUE(harness.run(op, 0, 3));
    EXPECT_EQ(harness.words(op.sampled)[0], choice(0, &draft));
    EXPECT_EQ(harness.words(op.sampled)[1], choice(1, nullptr));
    EXPECT_EQ(harness.words(op.sampled)[2], choice(2, nullptr));
    num_unlike_keyed += choice(0, &draft) == choice(0, nullptr) ? 0 : 1;
  }
  EXPECT_GT(num_unlike_keyed, 20u);
}

// A token that the host proposes, with what it was drawn from in the step before, or without.
TEST(Sample, VerifiesWhatTheHostHasDrawn) {
  OpHarness harness(1, 1);
  const std::vector<float> logits = {1, 1.3F, 1.2F};
  const std::vector<float> draft_logits = {1, 1.2F, 1.4F};
  program::SampleOperands op;
  op.logits = harness.buffer(logits);
  op.sampled = harness.buffer({0});
  op.vocab_size = 3;
  program::Column& column = harness.column(0, 7);
  column.wants_logits = true;
  harness.load();
  uint32_t num_accepted[2] = {0, 0};
  for (uint64_t seed = 0; seed < 200; ++seed) {
    program::ColumnSampling& sampling = harness.column_at(0).sampling;
    sampling.seed = seed;
    sampling.temperature = 1;
    const DrawnDraft draft{draft_logits, draw_draft(draft_logits, 99, sampling)};
    for (const bool is_drawn : {false, true}) {
      sampling.proposed_token_id = static_cast<int32_t>(draft.token_id);
      sampling.proposed_logits = is_drawn ? draft.logits : std::span<const float>();
      ASSERT_TRUE(harness.run(op, 0, 1));
      const uint32_t token = harness.words(op.sampled)[0];
      num_accepted[is_drawn ? 1 : 0] += token == draft.token_id ? 1 : 0;
      const auto expected = sample_column(logits, 7, sampling, is_drawn ? &draft : nullptr);
      EXPECT_EQ(token, static_cast<uint32_t>(expected->token_id));
    }
  }
  EXPECT_LT(num_accepted[0], 90u);   // a third
  EXPECT_GT(num_accepted[1], 160u);  // nearly all
  harness.column_at(0).sampling.proposed_logits = std::span(draft_logits).first(2);
  const Status status = harness.run(op, 0, 1);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(status.error().message.find("2 logits of proposed token"), std::string::npos);
}

TEST(Accept, ComparesWithWhatWasDrafted) {
  OpHarness harness(3, 1);
  program::AcceptOperands op;
  op.sampled = harness.buffer({0, 0, 0});
  op.accepted = harness.buffer({0, 0, 0});
  op.drafted = harness.buffer({0, 0, 0});
  add_block(&harness);
  harness.load();
  const uint32_t sampled[] = {4, 5, 6};
  const uint32_t drafted[] = {9, 4, 6};
  std::copy(sampled, sampled + 3, harness.words(op.sampled));
  std::copy(drafted, drafted + 3, harness.words(op.drafted));
  ASSERT_TRUE(harness.run(op, 0, 3));
  EXPECT_EQ(harness.output.columns[0].accepted, 1u);
  EXPECT_EQ(harness.output.columns[0].drafted_id, -1);
  EXPECT_EQ(harness.output.columns[1].drafted_id, 4);
  EXPECT_EQ(harness.output.columns[2].drafted_id, 6);
}

// One kv head [k; v] of dimension 2, at position 7: k is normalised, then rotated; v is scaled.
TEST(QkvProj, WritesNormalisedKeysAndValuesToABuffer) {
  OpHarness harness(1, 2);
  program::QkvProjOperands op;
  op.weight = harness.weight(4, 2, {3, 0, 0, 4, 1, 0, 0, 1});
  op.k_norm = {harness.weight(1, 2, {1, 2}), 0.0F};
  op.hidden = harness.buffer({1, 1});
  op.cache_rows = harness.buffer(std::vector<float>(4, NAN));
  op.num_kv_heads = 1;
  op.head_dim = op.v_head_dim = op.rotary_dim = 2;
  op.rope.theta = 10000;
  op.value_scale = 0.5F;
  harness.column(0, 7);
  harness.load();
  ASSERT_TRUE(harness.run(op, 0, 2));
  const float scale = 1 / std::sqrt(12.5F);  // of (3, 4)
  const float low = 3 * scale;
  const float high = 2 * 4 * scale;
  const float* row = harness.values(op.cache_rows);
  EXPECT_NEAR(row[0], low * std::cos(7.0F) - high * std::sin(7.0F), 1e-6);
  EXPECT_NEAR(row[1], high * std::cos(7.0F) + low * std::sin(7.0F), 1e-6);
  EXPECT_EQ(row[2], 0.5F);
  EXPECT_EQ(row[3], 0.5F);
}

}  // namespace
}  // namespace ultraspeed::cpu
