// What MTP heads ask of the operations beyond a target's use: tokens that follow, normalised
// halves, proposals of accepted columns.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cpu/ops/op_harness.h"
#include "cpu/ops/sample.h"

namespace ultraspeed::cpu {
namespace {

const std::vector<int32_t> kNextTokens = {60, 61, 62};

// A block of four columns whose first draft alone was right, a prompt's chunk, and the end of a
// prompt: accepted columns 1, 5 and 8.
class MtpOps : public testing::Test {
 protected:
  MtpOps() : harness(9, 2) {
    add_columns(4, 10, 7, 0);
    for (size_t t = 0; t < 4; ++t) harness.column_at(t).wants_logits = true;
    add_columns(2, 20, 0, 1);
    add_columns(3, 30, 5, 2);
    last_of_chunk().next_tokens = kNextTokens;
    last_of_prompt().wants_logits = true;
    sampled = harness.buffer(std::vector<float>(9, NAN));
    accepted = harness.buffer(std::vector<float>(9, NAN));
    for (program::BufferId& buffer : proposed) {
      buffer = harness.buffer(std::vector<float>(9, NAN));
    }
  }

  void add_columns(int32_t count, int32_t token_id, uint32_t position, uint32_t sequence) {
    for (int32_t i = 0; i < count; ++i) harness.column(token_id + i, position++, sequence);
  }

  void load() {
    harness.load();
    harness.words(accepted)[0] = 1;
    harness.words(accepted)[8] = 0;
    harness.words(sampled)[1] = 40;
    harness.words(sampled)[8] = 50;
    for (uint32_t head = 0; head < 2; ++head) {
      harness.words(proposed[head])[1] = 41 + head;
      harness.words(proposed[head])[8] = 51 + head;
    }
  }

  program::Column& last_of_chunk() { return harness.column_at(5); }
  program::Column& last_of_prompt() { return harness.column_at(8); }

  OpHarness harness;
  program::BufferId sampled = 0, accepted = 0;
  program::BufferId proposed[2] = {0, 0};
};

TEST_F(MtpOps, FollowTakesColumnsThenTheChoiceThenProposals) {
  program::FollowOperands op;
  op.sampled = sampled;
  op.accepted = accepted;
  op.tokens = harness.buffer(std::vector<float>(9, NAN));
  load();
  const auto tokens = [&](uint32_t distance) {
    op.distance = distance;
    for (uint32_t head = 0; head + 1 < distance; ++head) op.proposed[head] = proposed[head];
    EXPECT_TRUE(harness.run(op, 0, 9));
    return std::vector<int32_t>(harness.words(op.tokens), harness.words(op.tokens) + 9);
  };
  EXPECT_EQ(tokens(1), (std::vector<int32_t>{11, 40, 40, 40, 21, 60, 31, 32, 50}));
  EXPECT_EQ(tokens(2), (std::vector<int32_t>{40, 41, 41, 41, 60, 61, 32, 50, 51}));
  EXPECT_EQ(tokens(3), (std::vector<int32_t>{41, 42, 42, 42, 61, 62, 50, 51, 52}));
}

TEST_F(MtpOps, EmbedTakesTheTokensThatFollow) {
  program::EmbedOperands op;
  op.table = harness.weight(4, 2, {0, 1, 10, 11, 20, 21, 30, 31});
  op.hidden = harness.buffer(std::vector<float>(18, NAN));
  op.tokens = harness.buffer(std::vector<float>(9, 0));
  load();
  harness.words(op.tokens)[3] = 2;
  ASSERT_TRUE(harness.run(op, 0, 2));
  EXPECT_EQ(harness.values(op.hidden)[6], 20);
  EXPECT_EQ(harness.values(op.hidden)[8], 0);
}

TEST_F(MtpOps, LinearNormalisesBothHalves) {
  program::LinearOperands op;
  op.weight = harness.weight(1, 4, {1, 10, 100, 1000});
  op.norm = {harness.weight(1, 2, {1, 2}), 0.0F};
  op.second_norm = {harness.weight(1, 2, {3, 4}), 0.0F};
  std::vector<float> first(18, 1), second(18, 2);
  first[0] = 7;  // (7, 1) has the root mean square 5
  op.input = harness.buffer(first);
  op.more_inputs[0] = harness.buffer(second);
  op.output = harness.buffer(std::vector<float>(9, NAN));
  op.rows = op.total_rows = 1;
  load();
  ASSERT_TRUE(harness.run(op, 0, 1));
  EXPECT_NEAR(harness.values(op.output)[0], 7.0 / 5 + 10 * 2.0 / 5 + 300 + 4000, 1e-3);
  EXPECT_NEAR(harness.values(op.output)[1], 1 + 10 * 2 + 300 + 4000, 1e-3);
}

TEST_F(MtpOps, LinearAndProposeServeAcceptedColumnsThatWantLogits) {
  program::LinearOperands linear;
  linear.weight = harness.weight(2, 2, {1, 0, 0, 1});
  std::vector<float> values(18, 1);
  values[3] = 5;  // column 1 chooses 1, all others 0
  linear.input = harness.buffer(values);
  linear.output = harness.buffer(std::vector<float>(18, -1));
  linear.rows = linear.total_rows = 2;
  linear.accepted = accepted;
  program::ProposeOperands propose;
  propose.logits = linear.output;
  propose.drafted = harness.buffer(std::vector<float>(9, -1));
  propose.vocab_size = 2;
  propose.accepted = accepted;
  load();
  ASSERT_TRUE(harness.run(linear, 0, 2));
  for (uint32_t t = 0; t < 9; ++t) {
    EXPECT_EQ(harness.values(linear.output)[size_t{2} * t] == 1, t == 1 || t == 8) << t;
  }
  ASSERT_TRUE(harness.run(propose, 0, 9));
  for (uint32_t t = 0; t < 9; ++t) {
    EXPECT_EQ(harness.output.columns[t].proposed_ids.size(), t == 0 || t == 8 ? 1u : 0u) << t;
  }
  EXPECT_EQ(harness.output.columns[0].proposed_ids.at(0), 1);
  EXPECT_EQ(harness.output.columns[8].proposed_ids.at(0), 0);
  EXPECT_EQ(harness.words(propose.drafted)[1], 1u);
}

// By the parameters, the seed and the position of the accepted column, with a stream a head; the
// host gets what was drawn from.
TEST_F(MtpOps, ProposeDrawsWhereTheAcceptedColumnSaysSo) {
  std::vector<float> logits(27, NAN);
  const std::vector<float> row = {1, 2, 1.5F};
  std::ranges::copy(row, logits.begin() + 3);   // of column 1
  std::ranges::copy(row, logits.begin() + 24);  // of column 8
  program::ProposeOperands propose;
  propose.logits = harness.buffer(logits);
  propose.drafted = harness.buffer(std::vector<float>(9, -1));
  propose.vocab_size = 3;
  propose.accepted = accepted;
  load();
  bool has_other_head = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    program::ColumnSampling& sampling = harness.column_at(1).sampling;
    sampling.seed = seed;
    sampling.temperature = 2;
    sampling.draws_draft = true;
    std::vector<uint32_t> drawn;
    for (propose.head = 0; propose.head < 2; ++propose.head) {
      ASSERT_TRUE(harness.run(propose, 0, 9));
      drawn.push_back(draw_draft(row, program::draft_stream(8, propose.head), sampling));
      EXPECT_EQ(harness.words(propose.drafted)[1], drawn.back());
      EXPECT_EQ(harness.output.columns[0].proposed_ids.at(0), static_cast<int32_t>(drawn.back()));
      EXPECT_EQ(harness.output.columns[0].proposed_logits.at(0), row);
      EXPECT_EQ(harness.output.columns[8].proposed_ids.at(0), 1);
      EXPECT_TRUE(harness.output.columns[8].proposed_logits.empty());
    }
    has_other_head |= drawn[0] != drawn[1];
  }
  EXPECT_TRUE(has_other_head);
}

}  // namespace
}  // namespace ultraspeed::cpu
