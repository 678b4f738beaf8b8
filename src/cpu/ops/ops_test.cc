// The operations whose details the golden tests alone would not pin down.
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/math.h"
#include "cpu/ops/op_harness.h"
#include "cpu/ops/route.h"
#include "program/route_table.h"

namespace ultraspeed::cpu {
namespace {

TEST(Dot, HasTheDocumentedOrder) {
  // 2^24 swallows a 1 that is added to it, but not the 2 that the lanes' tree makes first.
  std::vector<float> a(48, 0), ones(48, 1);
  a[0] = 0x1p24F;
  a[16] = 1;  // the same lane as 2^24: lost
  a[1] = 1;
  a[9] = 1;  // meets a[1] in the tree before 2^24 does
  EXPECT_EQ(dot(a.data(), ones.data(), 48), 0x1p24F + 2);
  a[16] = 0;
  a[9] = 0;
  a[8] = 1;  // meets 2^24 first: lost; then a[1] too
  EXPECT_EQ(dot(a.data(), ones.data(), 48), 0x1p24F);
  // A tail that does not fill the lanes.
  std::vector<float> tail(19, 1);
  EXPECT_EQ(dot(tail.data(), tail.data(), 19), 19.0F);
}

class RouteTest : public testing::Test {
 protected:
  // Routes two columns over 5 experts, 2 each.
  void route(std::vector<float> logits, std::vector<float> bias, bool norm, float scaling) {
    program::RouteOperands op;
    op.num_experts = 5;
    op.top_k = 2;
    op.max_slots = 4;
    op.max_pairs = 4;
    op.norm_topk = norm ? 1 : 0;
    op.scaling = scaling;
    op.logits = harness_.buffer(std::move(logits));
    op.route = harness_.buffer(std::vector<float>(program::RouteTable::words(4, 4)));
    op.bias = harness_.weight(1, 5, std::move(bias));
    harness_.column(0, 0);
    harness_.column(0, 1);
    harness_.load();
    ASSERT_TRUE(harness_.run(op, 0, 1));
    table_ = program::RouteTable::at(reinterpret_cast<uint32_t*>(harness_.values(op.route)), 4, 4);
  }

  OpHarness harness_{2, 16};
  program::RouteTable table_;
};

TEST_F(RouteTest, BiasSelectsButDoesNotWeigh) {
  route({2, 1, 0, -1, -2, 0, 0, 0, 0, 3}, {0, 0, 5, 0, 0}, true, 2.5F);
  // Column 0: experts 2 (by bias) and 0; column 1: 2 (by bias) and 4.
  ASSERT_EQ(*table_.num_slots, 3u);
  EXPECT_EQ(table_.expert[0], 0u);
  EXPECT_EQ(table_.expert[1], 2u);
  EXPECT_EQ(table_.expert[2], 4u);
  EXPECT_EQ(table_.pair_begin[1], 1u);
  EXPECT_EQ(table_.pair_begin[2], 3u);
  EXPECT_EQ(table_.pair_begin[3], 4u);
  EXPECT_EQ(table_.pair_column[1], 0u);
  EXPECT_EQ(table_.pair_column[2], 1u);
  const float s0 = sigmoid(2), s2 = 0.5F;
  EXPECT_FLOAT_EQ(table_.pair_weight[0], 2.5F * s0 / (s0 + s2));
  EXPECT_FLOAT_EQ(table_.pair_weight[1], 2.5F * s2 / (s0 + s2));
}

TEST_F(RouteTest, TiesGoToTheLowerExpert) {
  route({1, 1, 1, 1, 1, 0, 7, 0, 7, 7}, {0, 0, 0, 0, 0}, false, 1);
  ASSERT_EQ(*table_.num_slots, 3u);  // column 0: 0, 1; column 1: 1, 3
  EXPECT_EQ(table_.expert[1], 1u);
  EXPECT_EQ(table_.expert[2], 3u);
  EXPECT_EQ(table_.pair_begin[2] - table_.pair_begin[1], 2u);
  EXPECT_FLOAT_EQ(table_.pair_weight[0], sigmoid(1));  // not normalised
}

TEST(RouteColumn, SoftmaxCountsTheBiasAndTheOthers) {
  program::RouteOperands op;
  op.num_experts = 4;
  op.top_k = 2;
  op.scores = program::RouterScores::kSoftmax;
  op.scaling = 2;
  const std::vector<float> logits = {1, 90, 2, 3}, bias = {2.5F, -90, 0, 0.25F};
  const std::vector<double> sums = {3.5, 0, 2, 3.25};  // chosen: 0 and 3
  double all = 0;
  for (const double sum : sums) all += std::exp(sum);
  for (const bool is_normed : {false, true}) {
    op.norm_topk = is_normed ? 1 : 0;
    std::vector<uint32_t> order;
    std::vector<float> weights(4);
    route_column(op, logits.data(), bias.data(), &order, weights.data());
    const double total = is_normed ? std::exp(3.5) + std::exp(3.25) : all;
    EXPECT_NEAR(weights[0], 2 * std::exp(3.5) / total, 1e-6);
    EXPECT_NEAR(weights[3], 2 * std::exp(3.25) / total, 1e-6);
    EXPECT_EQ(weights[1], -1);
    EXPECT_EQ(weights[2], -1);
  }
  std::vector<uint32_t> order;
  std::vector<float> weights(4);
  route_column(op, logits.data(), nullptr, &order, weights.data());  // no bias: 1 and 3
  EXPECT_EQ(weights[0], -1);
  EXPECT_EQ(weights[1], 2);
}

TEST(QkvProj, RotatesPairsScalesValuesAndAppends) {
  // One head of each kind, 6 dimensions of which 4 rotate, 2 of v; the weight copies hidden.
  OpHarness harness(2, 16);
  program::QkvProjOperands op;
  op.num_q_heads = op.num_kv_heads = 1;
  op.head_dim = 6;
  op.v_head_dim = 2;
  op.rotary_dim = 4;
  op.rope.theta = 100;
  op.value_scale = 0.5F;
  std::vector<float> weight(14 * 16, 0);
  for (uint32_t row = 0; row < 14; ++row) weight[row * 16 + row] = 1;
  op.weight = harness.weight(14, 16, weight);
  std::vector<float> hidden(32);
  for (size_t i = 0; i < hidden.size(); ++i) hidden[i] = static_cast<float>(i + 1);
  op.hidden = harness.buffer(hidden);
  op.query = harness.buffer(std::vector<float>(12, NAN));
  op.cache_rows = harness.buffer({0});
  op.cache = harness.cache({1, 6, 2, 16});
  harness.column(0, 3, 0);
  harness.column(0, 21, 2);  // ring position 21 % 16 of the third sequence
  harness.load();
  op.head_parts = 2;
  for (uint32_t part = 0; part < 2; ++part) ASSERT_TRUE(harness.run(op, 0, 3, part));

  const Cache& cache = harness.machine().rank(0).caches[0];
  for (uint32_t t = 0; t < 2; ++t) {
    const double position = t == 0 ? 3 : 21;
    const size_t row = t == 0 ? 3 : 2 * 16 + 5;
    const float* x = &hidden[t * 16];
    for (uint32_t head = 0; head < 2; ++head) {
      const float* out = head == 0 ? harness.values(op.query) + t * 6 : &cache.keys[row * 6];
      const float* in = x + head * 6;
      for (uint32_t i = 0; i < 2; ++i) {
        const double angle = position / std::pow(100.0, i / 2.0);
        const double low = static_cast<double>(in[i]), high = static_cast<double>(in[i + 2]);
        EXPECT_NEAR(static_cast<double>(out[i]), low * cos(angle) - high * sin(angle), 1e-5);
        EXPECT_NEAR(static_cast<double>(out[i + 2]), high * cos(angle) + low * sin(angle), 1e-5);
      }
      EXPECT_EQ(out[4], in[4]);
      EXPECT_EQ(out[5], in[5]);
    }
    EXPECT_EQ(cache.values[row * 2], 0.5F * x[12]);
    EXPECT_EQ(cache.values[row * 2 + 1], 0.5F * x[13]);
  }
  EXPECT_TRUE(std::isnan(cache.keys[0]));  // nothing else was written
}

TEST(Accept, CountsAgreeingDraftsOfEachSequence) {
  OpHarness harness(8, 16);
  program::AcceptOperands op;
  std::vector<float> sampled(8);
  // Sequence 0 is in its prompt but for the last column; 1 drafts three tokens; 2 decodes plainly.
  const uint32_t choices[8] = {9, 9, 50, 11, 12, 99, 14, 7};
  std::memcpy(sampled.data(), choices, sizeof(choices));
  op.sampled = harness.buffer(sampled);
  op.accepted = harness.buffer(std::vector<float>(8));
  const int32_t tokens[8] = {1, 2, 3, 10, 11, 12, 13, 5};
  const uint32_t sequences[8] = {0, 0, 0, 1, 1, 1, 1, 2};
  for (uint32_t t = 0; t < 8; ++t) {
    harness.column(tokens[t], t, sequences[t]).wants_logits = t >= 2;
  }
  harness.load();
  ASSERT_TRUE(harness.run(op, 0, 8));
  EXPECT_EQ(harness.output.columns[2].accepted, 0u);
  EXPECT_EQ(harness.output.columns[3].accepted, 2u);  // 11 and 12 agree, 13 does not follow 99
  EXPECT_EQ(harness.output.columns[7].accepted, 0u);
  EXPECT_EQ(harness.words(op.accepted)[3], 2u);
}

TEST(Sample, AnswersWantedColumnsOnly) {
  OpHarness harness(2, 16);
  program::SampleOperands op;
  op.vocab_size = 3;
  op.logits = harness.buffer({NAN, NAN, NAN, 0, 2, 1});
  op.sampled = harness.buffer({0, 0});
  harness.column(0, 0).wants_logits = false;
  harness.column(0, 1).wants_logits = true;
  harness.load();
  ASSERT_TRUE(harness.run(op, 1, 1));
  EXPECT_EQ(harness.output.columns[1].token_id, 1);
  EXPECT_EQ(harness.output.columns[1].logit, 2.0F);
  EXPECT_EQ(harness.words(op.sampled)[1], 1u);
  // A column that wants nothing is not looked at: its logits are NaN.
  ASSERT_TRUE(harness.run(op, 0, 1));
  EXPECT_EQ(harness.output.columns[0].token_id, -1);
}

}  // namespace
}  // namespace ultraspeed::cpu
