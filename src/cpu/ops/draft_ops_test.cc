// What a drafter asks of the operations beyond a target's use: masks and drafted tokens, features
// of several inputs, projections of k and v alone with normalised heads, a choice.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/ops/op_harness.h"

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
  op.rope_theta = 10000;
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
