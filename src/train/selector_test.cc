// The selector against values worked out by hand, its gradients against finite differences, and its
// walk against one choice after another.
#include "train/selector.h"

#include <gtest/gtest.h>

#include <cmath>

#include "train/gradient_check.h"
#include "train/losses.h"

namespace ultraspeed::train {
namespace {

const auto kReal = torch::kFloat64;

torch::Tensor ids(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

// Three tokens, one dimension: u(b) = 2 e_b = (2, 4, -2), g(h) = h / 2, s(a) = 3 w_a = (3, 1.5,
// -6).
Selector small_selector() {
  const auto matrix = [](double value) { return torch::full({1, 1}, value, kReal); };
  Selector selector;
  selector.num_candidates = 2;
  selector.predecessor = matrix(2);
  selector.successor = matrix(3);
  selector.hidden = matrix(0.5);
  selector.embedding = torch::tensor({1.0, 2.0, -1.0}, kReal).unsqueeze(1);
  selector.head = torch::tensor({1.0, 0.5, -2.0}, kReal).unsqueeze(1);
  return selector;
}

TEST(Selector, ScoresByHand) {
  const torch::Tensor logits = torch::tensor({{0.25, -1.0, 0.75}}, kReal);
  const torch::Tensor rows = torch::tensor({{3.0}}, kReal);  // g = 1.5
  const Candidates candidates = candidates_of(logits, 2);
  EXPECT_TRUE(torch::equal(candidates.ids, ids({2, 0}).unsqueeze(0)));
  const torch::Tensor scores = score(small_selector(), candidates, ids({1}), rows);
  EXPECT_NEAR(scores[0][0].item<double>(), 0.75 - 6 * 4 * 1.5, 1e-12);
  EXPECT_NEAR(scores[0][1].item<double>(), 0.25 + 3 * 4 * 1.5, 1e-12);
}

TEST(Selector, TakesAsManyCandidatesAsThereAre) {
  EXPECT_EQ(candidates_of(torch::randn({2, 5}), 16).ids.size(1), 5);
  EXPECT_EQ(candidates_of(torch::randn({2, 50}), 16).ids.size(1), 16);
}

// After token 0, u = 2, token 0 gains 6 and 2 loses 12; after 2, u = -2, the other way round: a
// chain that turns at the anchor's choice. A third token is never a candidate.
TEST(Selector, ChoosesAfterWhatItChose) {
  const Selector selector = small_selector();
  const torch::Tensor logits =
      torch::tensor({{0.5, -9.0, 0.75}, {0.0, -9.0, 1.0}}, kReal).repeat({2, 1, 1});
  const torch::Tensor rows = torch::full({2, 2, 1}, 2.0, kReal);  // g = 1
  const torch::Tensor chosen = choose(selector, logits, ids({0, 2}), rows);
  EXPECT_TRUE(torch::equal(chosen, ids({0, 0, 2, 2}).view({2, 2}))) << chosen;
}

model::DrafterConfig selecting_config() {
  model::DrafterConfig config;
  config.hidden_size = 6;
  config.intermediate_size = 5;
  config.num_layers = 1;
  config.num_q_heads = config.num_kv_heads = 1;
  config.head_dim = config.v_head_dim = config.rotary_dim = 4;
  config.vocab_size = 11;
  config.block_size = 4;
  config.layers = {{0, false}};
  config.target_layer_ids = {0};
  config.rope_theta = 100;
  config.rms_norm_eps = 1e-5F;
  config.selector.rank = 3;
  config.selector.num_candidates = 5;
  return config;
}

TEST(Selector, BeginsAsADrafterWithout) {
  const DrafterNet net(selecting_config(), {}, 1);
  torch::manual_seed(2);
  const Selector selector = selector_of(net, torch::randn({11, 6}), torch::randn({11, 6}));
  const torch::Tensor logits = torch::randn({4, 11}), rows = torch::randn({4, 6});
  const Candidates candidates = candidates_of(logits, 5);
  const torch::Tensor scores = score(selector, candidates, ids({1, 2, 3, 4}), rows);
  EXPECT_TRUE(torch::equal(scores, candidates.logits));
  EXPECT_GT(selector.predecessor.abs().max().item<double>(), 0);
}

class SelectorLoss : public testing::Test {
 protected:
  // Labels are among the candidates, but one of a block's first mask and one without a label.
  void SetUp() override {
    NetOptions options;
    options.master = options.compute = kReal;
    net_.emplace(selecting_config(), options, 1);
    torch::manual_seed(3);
    for (const Parameter& p : net_->parameters()) {
      if (p.is_of_selector()) net_->set(p.name, torch::randn_like(p.value) * 0.5);
    }
    input_.head = torch::randn({11, 6}, kReal);
    selector_ = selector_of(*net_, torch::randn({11, 6}, kReal), input_.head);
    input_.selector = &selector_;
    input_.hidden = torch::randn({4, 3, 6}, kReal);
    const torch::Tensor order = input_.hidden.matmul(input_.head.t()).argsort(-1, true);
    input_.labels = order.select(2, 1).contiguous();
    input_.labels[1][0] = order[1][0][7];
    input_.is_valid = torch::ones({4, 3});
    input_.is_valid[2][2] = 0;
    input_.anchor_ids = ids({3, 1, 4, 1});
    options_.chunk_blocks = 2;
  }

  std::optional<DrafterNet> net_;
  Selector selector_;
  LossInput input_;
  LossOptions options_;
};

TEST_F(SelectorLoss, IsTheChoicesCrossEntropyAfterTheTextsTokens) {
  options_.weighting = Weighting::kDecay;
  options_.gamma = 1e12;
  options_.cross_entropy = 0;
  options_.selection = 2;
  const LossOutput output = evaluate_blocks(input_, options_);
  const torch::NoGradGuard no_grad;
  double sum = 0;
  for (int64_t block = 0; block < 4; ++block) {
    for (int64_t mask = 0; mask < 3; ++mask) {
      const torch::Tensor row = input_.hidden[block][mask];
      const int64_t label = input_.labels[block][mask].item<int64_t>();
      const torch::Tensor before =
          mask == 0 ? input_.anchor_ids[block] : input_.labels[block][mask - 1];
      const Candidates candidates = candidates_of(input_.head.matmul(row), 5);
      const torch::Tensor scores = score(selector_, candidates, before, row);
      const torch::Tensor at = (candidates.ids == label).nonzero();
      EXPECT_EQ(output.is_candidate[block][mask].item<bool>(), at.numel() == 1);
      const bool is_right = candidates.ids[scores.argmax()].item<int64_t>() == label;
      EXPECT_EQ(output.is_right[block][mask].item<bool>(), is_right);
      EXPECT_FALSE(output.is_likeliest[block][mask].item<bool>());
      if (at.numel() == 0 || input_.is_valid[block][mask].item<double>() == 0) continue;
      sum -= 2 * scores.log_softmax(-1)[at.item<int64_t>()].item<double>();
    }
  }
  EXPECT_FALSE(output.is_candidate[1][0].item<bool>());
  EXPECT_NEAR(output.weighted_sum, sum, 1e-9);
}

TEST_F(SelectorLoss, GradientsEqualFiniteDifferences) {
  options_.weighting = Weighting::kDecay;  // whose weights have no part in a difference
  options_.cross_entropy = 0.5;
  differentiate_blocks(input_, options_, &input_.hidden.mutable_grad());
  std::vector<Parameter> checked = {{.name = "hidden", .value = input_.hidden}};
  for (const Parameter& p : net_->parameters()) {
    if (p.is_of_selector()) checked.push_back(p);
  }
  ASSERT_EQ(checked.size(), 4u);
  expect_central_differences(
      checked, [&] { return evaluate_blocks(input_, options_).weighted_sum; }, 1e-6, 1e-7);
}

TEST_F(SelectorLoss, IsTheSameInAnyChunks) {
  for (const Weighting weighting : {Weighting::kDecay, Weighting::kDpace, Weighting::kAuf}) {
    options_.weighting = weighting;
    torch::Tensor whole, parts;
    options_.chunk_blocks = 100;
    const LossOutput expected = differentiate_blocks(input_, options_, &whole);
    options_.chunk_blocks = 1;
    const LossOutput output = differentiate_blocks(input_, options_, &parts);
    EXPECT_NEAR(output.loss(), expected.loss(), 1e-12);
    EXPECT_TRUE(torch::allclose(whole, parts, 1e-9, 1e-12));
    EXPECT_TRUE(std::isfinite(output.loss()));
    EXPECT_TRUE(torch::equal(output.is_right, expected.is_right));
  }
}

}  // namespace
}  // namespace ultraspeed::train
