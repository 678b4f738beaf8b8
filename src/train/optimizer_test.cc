// Muon and AdamW against values that were computed apart from them: the Newton-Schulz steps and two
// updates of AdamW in plain Python, the rest by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "support/temporary_directory.h"
#include "train/adamw.h"
#include "train/checkpoint.h"
#include "train/muon.h"
#include "train/optimizers.h"

namespace ultraspeed::train {
namespace {

const auto kDouble = torch::kFloat64;

void expect_near(const torch::Tensor& actual, const torch::Tensor& expected, double tolerance) {
  EXPECT_TRUE(torch::allclose(actual, expected.to(actual.scalar_type()), 0, tolerance))
      << actual << expected;
}

torch::Tensor square() {
  return torch::tensor({{1.0, 2.0}, {3.0, 4.0}}, kDouble);
}
torch::Tensor orthogonal_square() {
  return torch::tensor(
      {{-0.6806610001216598, 0.8255396074706307}, {0.7412954094527762, 0.25944001003238526}},
      kDouble);
}

TEST(Orthogonalize, GivesTheValuesOfItsDefinition) {
  expect_near(orthogonalize(square(), kDouble), orthogonal_square(), 1e-12);
  const torch::Tensor wide = torch::tensor({{2.0, -1.0, 0.5}, {0.25, 1.0, 3.0}}, kDouble);
  const torch::Tensor expected =
      torch::tensor({{0.615282299404087, -0.2969577514452686, 0.1817161147437114},
                     {0.10703153528836204, 0.3426589550992496, 1.0612141043188261}},
                    kDouble);
  expect_near(orthogonalize(wide, kDouble), expected, 1e-12);
  expect_near(orthogonalize(wide.t(), kDouble), expected.t(), 1e-12);
  expect_near(orthogonalize(torch::stack({wide, wide * 7}), kDouble),
              torch::stack({expected, expected}), 1e-12);
  expect_near(orthogonalize(torch::zeros({2, 3}), torch::kFloat32), torch::zeros({2, 3}), 0);
}

// The quintic takes [0.01, 1] into [0.68, 1.14], and BF16 blurs that a little.
TEST(Orthogonalize, TakesSingularValuesNearOne) {
  torch::manual_seed(1);
  for (const auto compute : {torch::kFloat32, torch::kBFloat16}) {
    for (const auto& shape : {std::vector<int64_t>{48, 96}, {96, 48}, {24, 128}}) {
      const torch::Tensor result = orthogonalize(torch::randn(shape), compute).to(torch::kFloat32);
      const torch::Tensor values = std::get<1>(torch::svd(result));
      EXPECT_GT(values.min().item<double>(), 0.66);
      EXPECT_LT(values.max().item<double>(), 1.21);
    }
  }
}

TEST(Muon, ScalesByShape) {
  EXPECT_DOUBLE_EQ(muon_scale(MuonScale::kOriginal, 64, 16), 2);
  EXPECT_DOUBLE_EQ(muon_scale(MuonScale::kOriginal, 16, 64), 1);
  EXPECT_DOUBLE_EQ(muon_scale(MuonScale::kMatchRmsAdamw, 64, 16), 1.6);
  EXPECT_DOUBLE_EQ(muon_scale(MuonScale::kMatchRmsAdamw, 16, 64), 1.6);
}

// The first direction is the gradient's: m = (1 - mu) g, u = (1 - mu) g + mu m.
TEST(Muon, TakesAStepByHand) {
  for (const MuonScale scale : {MuonScale::kOriginal, MuonScale::kMatchRmsAdamw}) {
    torch::Tensor weight = torch::eye(2, kDouble);
    weight.mutable_grad() = square();
    MuonOptions options;
    options.scale = scale;
    options.compute = kDouble;
    Muon muon({weight}, options);
    muon.step(0.5);
    expect_near(muon.state()[0], square() * 0.05, 1e-15);
    const torch::Tensor expected =
        torch::eye(2, kDouble) * 0.95 - orthogonal_square() * (0.5 * muon_scale(scale, 2, 2));
    expect_near(weight, expected, 1e-12);
  }
}

TEST(Muon, UpdatesAMatrixInItsUnit) {
  torch::Tensor small = torch::zeros({2, 2}, kDouble), large = torch::zeros({2, 2}, kDouble);
  small.mutable_grad() = square();
  large.mutable_grad() = square() * 7;
  MuonOptions options;
  options.compute = kDouble;
  Muon muon({small, large}, options, {1, 20});
  muon.step(0.5);
  expect_near(large, small * 20, 1e-12);
}

// g1 = E11, g2 = E22: m2 = mu (1 - mu) E11 + (1 - mu) E22, u2 = mu m2 + (1 - mu) E22.
TEST(Muon, LooksAheadWithItsMomentum) {
  torch::Tensor weight = torch::zeros({2, 2}, kDouble);
  MuonOptions options;
  options.weight_decay = 0;
  options.compute = kDouble;
  options.scale = MuonScale::kOriginal;
  Muon muon({weight}, options);
  weight.mutable_grad() = torch::tensor({{1.0, 0.0}, {0.0, 0.0}}, kDouble);
  muon.step(0);
  weight.mutable_grad() = torch::tensor({{0.0, 0.0}, {0.0, 1.0}}, kDouble);
  muon.step(1);
  const double first = 0.95 * 0.95 * 0.05, second = 0.95 * 0.05 + 0.05;
  const torch::Tensor direction =
      orthogonalize(torch::tensor({{first, 0.0}, {0.0, second}}, kDouble), kDouble);
  expect_near(weight, -direction, 1e-12);
}

TEST(Muon, UpdatesMatricesOfManyShapesAsEachAlone) {
  torch::manual_seed(2);
  std::vector<torch::Tensor> together, alone;
  for (const auto& shape : {std::vector<int64_t>{4, 6}, {6, 4}, {4, 6}, {3, 3}}) {
    together.push_back(torch::randn(shape, kDouble));
    alone.push_back(together.back().clone());
    together.back().mutable_grad() = torch::randn(shape, kDouble);
    alone.back().mutable_grad() = together.back().grad();
  }
  MuonOptions options;
  options.compute = kDouble;
  Muon(together, options).step(0.1);
  for (size_t i = 0; i < alone.size(); ++i) {
    Muon({alone[i]}, options).step(0.1);
    expect_near(together[i], alone[i], 1e-12);
  }
}

// lr 0.1, weight decay 0.01, betas 0.9 and 0.95; gradients 0.5, then -0.25.
TEST(Adamw, GivesTheValuesOfItsDefinition) {
  torch::Tensor weight = torch::ones({1}, kDouble);
  AdamwOptions options;
  options.weight_decay = 0.01;
  Adamw adamw({weight}, options);
  weight.mutable_grad() = torch::full({1}, 0.5, kDouble);
  adamw.step(0.1);
  EXPECT_NEAR(weight.item<double>(), 0.8990000019999999, 1e-12);
  weight.mutable_grad() = torch::full({1}, -0.25, kDouble);
  adamw.step(0.1);
  EXPECT_NEAR(weight.item<double>(), 0.8712640578738272, 1e-12);
  EXPECT_EQ(adamw.num_steps(), 2);
}

TEST(Optimizers, AGradientThatIsNotFiniteChangesNothing) {
  const torch::Tensor matrix = torch::eye(4).requires_grad_(true);
  const torch::Tensor vector = torch::ones({3}).requires_grad_(true);
  Optimizers optimizers({{"matrix", ParameterKind::kMatrix, matrix, 1},
                         {"vector", ParameterKind::kVector, vector, 1}},
                        RunOptions());
  for (const float bad : {NAN, HUGE_VALF, 1e30F}) {  // the square of the last one is no float
    optimizers.begin_step();
    matrix.mutable_grad().fill_(0.1);
    vector.mutable_grad()[1] = bad;
    const auto norm = optimizers.update(1, 6);
    ASSERT_FALSE(norm.has_value()) << bad;
    EXPECT_NE(norm.error().message.find("step 7: the gradient is not finite"), std::string::npos);
    EXPECT_TRUE(torch::equal(matrix, torch::eye(4)) && torch::equal(vector, torch::ones({3})));
    EXPECT_EQ(optimizers.num_updates(), 0u);
  }
  for (const NamedTensor& tensor : optimizers.state()) {
    EXPECT_TRUE(tensor.value.isfinite().all().item<bool>()) << tensor.name;
  }
  optimizers.begin_step();
  vector.mutable_grad()[1] = 2;
  EXPECT_EQ(optimizers.update(4, 0).value(), 0.5);
  EXPECT_FALSE(torch::equal(vector, torch::ones({3})));
}

TEST(Checkpoint, NeverHoldsANumberThatIsNotFinite) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.path() + "/run";
  const torch::Tensor good = torch::ones({2}), bad = torch::tensor({1.0F, NAN});
  ASSERT_TRUE(write_checkpoint(path, {"run", 3, 3, 1.0}, {{"a", good}}).has_value());
  const Status status = write_checkpoint(path, {"run", 4, 4, 1.0}, {{"a", bad}});
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().message.find("'a' has numbers that are not finite"), std::string::npos);
  EXPECT_EQ(read_checkpoint(path, "run", {{"a", good}})->num_steps, 3u);
}

}  // namespace
}  // namespace ultraspeed::train
