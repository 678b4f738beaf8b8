// Losses and weights against values worked out by hand, and the gradient of chunks against the one
// of the whole.
#include "train/losses.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ultraspeed::train {
namespace {

const auto kLossType = torch::kFloat64;

torch::Tensor row(const std::vector<double>& values) {
  return torch::tensor(values, kLossType).unsqueeze(0);
}

void expect_near(const torch::Tensor& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.numel(), static_cast<int64_t>(expected.size()));
  const torch::Tensor flat = actual.flatten().to(kLossType);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected[i], 1e-7) << i;
  }
}

MaskOutcome outcome(const std::vector<double>& q, const std::vector<bool>& is_right,
                    const std::vector<double>& is_valid) {
  torch::Tensor right = torch::zeros({1, static_cast<int64_t>(q.size())}, torch::kBool);
  for (size_t i = 0; i < q.size(); ++i) right[0][static_cast<int64_t>(i)] = bool{is_right[i]};
  return {row(q).log(), right, row(is_valid)};
}

TEST(MaskWeights, DecayWithTheirPlace) {
  LossOptions options;
  options.weighting = Weighting::kDecay;
  options.gamma = 4;
  expect_near(mask_weights(outcome({.5, .5, .5}, {0, 0, 0}, {1, 1, 0}), options),
              {1, std::exp(-0.25), 0});
}

// alpha 1/2: q~ = 0.75, 0.6, 0.9; C = 0.75, 0.45, 0.405.
TEST(MaskWeights, DpaceSumsTheChancesToReachWhatFollows) {
  LossOptions options;
  options.weighting = Weighting::kDpace;
  options.dpace_alpha = 0.5;
  expect_near(mask_weights(outcome({.5, .2, .8}, {0, 0, 0}, {1, 1, 1}), options),
              {0.75 + 0.45 + 0.405, 0.45 + 0.405, 0.405});
  expect_near(mask_weights(outcome({.5, .2, .8}, {0, 0, 0}, {1, 1, 0}), options), {1.2, 0.45, 0});
}

TEST(MaskWeights, AufEndsWithTheFirstWrongMask) {
  LossOptions options;
  options.weighting = Weighting::kAuf;
  expect_near(mask_weights(outcome({.5, .5, .5, .5}, {1, 0, 1, 1}, {1, 1, 1, 1}), options),
              {1, 1, 0, 0});
  expect_near(mask_weights(outcome({.5, .5, .5, .5}, {1, 1, 1, 0}, {1, 1, 1, 0}), options),
              {1, 1, 1, 0});
  expect_near(mask_weights(outcome({.5, .5}, {0, 0}, {1, 1}), options), {1, 0});
}

// q = (1/4, 1/4, 1/2), p = (1/2, 1/4, 1/4); label 2. TV = (1/4 + 1/4) / 2,
// KL(p || q) = log(2) / 2 - log(2) / 4.
TEST(MaskLosses, AreTheMixOfTheirParts) {
  const torch::Tensor logits = row({std::log(.25), std::log(.25), std::log(.5)}) + 3;
  const torch::Tensor teacher = row({std::log(.5), std::log(.25), std::log(.25)}) - 2;
  const torch::Tensor label = torch::tensor({int64_t{2}});
  LossOptions options;
  expect_near(mask_losses(logits, {}, label, options), {std::log(2)});
  options.cross_entropy = 0;
  options.total_variation = 1;
  expect_near(mask_losses(logits, teacher, label, options), {0.25});
  options.total_variation = 0;
  options.kl_divergence = 1;
  expect_near(mask_losses(logits, teacher, label, options), {std::log(2) / 4});
  options.cross_entropy = 0.1;
  options.total_variation = 0.9;
  options.kl_divergence = 0.5;
  expect_near(mask_losses(logits, teacher, label, options),
              {0.1 * std::log(2) + 0.9 * 0.25 + 0.5 * std::log(2) / 4});
}

LossInput random_input(int64_t blocks) {
  torch::manual_seed(4);
  LossInput input;
  input.hidden = torch::randn({blocks, 3, 6}, kLossType);
  input.head = torch::randn({11, 6}, kLossType);
  input.labels = torch::randint(11, {blocks, 3}, torch::kInt64);
  input.is_valid = torch::ones({blocks, 3});
  input.is_valid[1][2] = 0;
  input.is_valid[3] = 0;
  input.teacher = torch::randn({blocks, 3, 6}, kLossType);
  return input;
}

TEST(BlockLoss, EqualsTheWholeInAnyChunks) {
  LossInput input = random_input(5);
  for (const Weighting weighting : {Weighting::kDecay, Weighting::kDpace, Weighting::kAuf}) {
    LossOptions options;
    options.weighting = weighting;
    options.total_variation = 0.5;
    options.kl_divergence = 0.25;
    // The definition, without chunks.
    const torch::Tensor hidden = input.hidden.detach().clone().requires_grad_(true);
    const torch::Tensor logits = hidden.matmul(input.head.t());
    const torch::Tensor log_q =
        logits.detach().log_softmax(-1).gather(2, input.labels.unsqueeze(2));
    const torch::Tensor is_right = logits.argmax(-1) == input.labels;
    const torch::Tensor weights =
        mask_weights({log_q.squeeze(2), is_right, input.is_valid}, options);
    const torch::Tensor sum =
        (mask_losses(logits, input.teacher.matmul(input.head.t()), input.labels, options) * weights)
            .sum();
    sum.backward();
    const double divisor = weighting == Weighting::kDpace ? 4 : weights.sum().item<double>();
    for (const int64_t chunk : {1, 2, 5, 100}) {
      options.chunk_blocks = chunk;
      torch::Tensor gradient;
      const LossOutput output = differentiate_blocks(input, options, &gradient);
      EXPECT_NEAR(output.loss(), sum.item<double>() / divisor, 1e-9) << chunk;
      EXPECT_TRUE(torch::allclose(gradient, hidden.grad(), 1e-9, 1e-12)) << chunk;
      EXPECT_TRUE(torch::equal(output.is_right, is_right)) << chunk;
      EXPECT_DOUBLE_EQ(evaluate_blocks(input, options).loss(), output.loss()) << chunk;
    }
  }
}

TEST(BlockLoss, OfNothingValidIsZero) {
  LossInput input = random_input(5);
  input.is_valid.zero_();
  for (const Weighting weighting : {Weighting::kDecay, Weighting::kDpace, Weighting::kAuf}) {
    LossOptions options;
    options.weighting = weighting;
    torch::Tensor gradient;
    EXPECT_EQ(differentiate_blocks(input, options, &gradient).loss(), 0);
    EXPECT_EQ(gradient.abs().max().item<double>(), 0);
  }
}

}  // namespace
}  // namespace ultraspeed::train
