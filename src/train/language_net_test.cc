// The net's gradients against finite differences, in double, for every kind of parameter; experts
// against their definition; and what rounding changes.
#include "train/language_net.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "train/expert_layer.h"
#include "train/gradient_check.h"
#include "train/language_files.h"
#include "train/mxfp4_rounding.h"

namespace ultraspeed::train {
namespace {

LanguageShape small_shape() {
  LanguageShape shape;
  shape.vocab_size = 11;
  shape.hidden_size = 6;
  shape.num_layers = 3;
  shape.intermediate_size = 5;
  shape.num_experts = 4;
  shape.num_experts_per_token = 2;
  shape.moe_intermediate_size = 5;
  shape.num_q_heads = 4;
  shape.num_kv_heads = 2;
  shape.head_dim = 6;
  shape.v_head_dim = 4;
  shape.rotary_dim = 4;
  shape.sliding_window = 3;
  shape.full_every = 2;
  shape.rope_theta = 100;
  shape.sliding_rope_theta = 50;
  return shape;
}

torch::Tensor small_ids() {
  return torch::tensor({1, 5, 3, 9, 0, 7, 2, 2, 10, 4}, torch::kInt64).view({2, 5});
}

void disturb_all(LanguageNet* net) {
  torch::manual_seed(7);
  for (const Parameter& p : net->parameters()) {
    const torch::NoGradGuard no_grad;
    const double size = p.kind == ParameterKind::kState ? 0.1 : 0.3;
    net->set(p.name, p.value + torch::randn_like(p.value) * size);
  }
}

TEST(LanguageNet, GradientsEqualFiniteDifferences) {
  NetOptions options;
  options.master = options.compute = torch::kFloat64;
  LanguageNet net(language_config(small_shape()), options, 1);
  disturb_all(&net);
  const torch::Tensor ids = small_ids();
  const torch::Tensor direction = torch::randn({2, 5, 11}, torch::kFloat64);
  const auto sum = [&] { return (net.logits(net.forward(ids).hidden) * direction).sum(); };
  sum().backward();
  const auto value = [&] { return sum().item<double>(); };
  expect_central_differences(net.parameters(), value, 1e-6, 1e-5);
}

TEST(LanguageNet, ATokenSeesNoLaterOneAndNoOtherText) {
  LanguageNet net(language_config(small_shape()), {}, 1);
  disturb_all(&net);
  const torch::NoGradGuard no_grad;
  const torch::Tensor ids = small_ids();
  const torch::Tensor whole = net.forward(ids).hidden;
  for (int64_t length = 1; length <= 5; ++length) {
    const torch::Tensor part = net.forward(ids.narrow(0, 1, 1).narrow(1, 0, length)).hidden[0];
    EXPECT_TRUE(torch::allclose(part, whole[1].narrow(0, 0, length), 1e-5, 1e-6)) << length;
  }
}

TEST(LanguageNet, NamesAndKindsAreThoseOfItsFiles) {
  const LanguageNet net(language_config(small_shape()), {}, 1);
  std::set<std::string> matrices, vectors;
  for (const Parameter& p : net.parameters()) {
    (p.kind == ParameterKind::kMatrix ? matrices : vectors).insert(p.name);
  }
  for (const char* name :
       {"model.layers.0.mlp.gate_proj.weight", "model.layers.2.mlp.experts.down_proj.weight",
        "model.layers.1.self_attn.q_proj.weight"}) {
    EXPECT_TRUE(matrices.contains(name)) << name;
  }
  for (const char* name :
       {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight",
        "model.layers.1.self_attn.attention_sink_bias", "model.layers.2.mlp.gate.weight",
        "model.layers.1.mlp.gate.e_score_correction_bias"}) {
    EXPECT_TRUE(vectors.contains(name)) << name;
  }
  EXPECT_FALSE(vectors.contains("model.layers.0.self_attn.attention_sink_bias"));  // full
  EXPECT_FALSE(vectors.contains("model.layers.0.mlp.gate.weight"));                // dense
}

TEST(ExpertLayer, EqualsItsDefinition) {
  torch::manual_seed(5);
  const auto options = torch::dtype(torch::kFloat64);
  for (const int64_t tokens : {1, 7, 40}) {
    const torch::Tensor x = torch::randn({tokens, 6}, options);
    const ExpertWeights weights = {torch::randn({5, 3, 6}, options),
                                   torch::randn({5, 3, 6}, options),
                                   torch::randn({5, 6, 3}, options)};
    // A bias that leaves expert 3 to nobody, and sends everybody to expert 1.
    const torch::Tensor bias = torch::tensor({0.0, 9.0, 0.0, -9.0, 0.0}, options);
    const Routing routing = route(torch::randn({tokens, 5}, options), bias, 2);
    const ExpertOutput output = apply_experts(x, routing, weights);
    EXPECT_EQ(output.load[1].item<int64_t>(), tokens);
    EXPECT_EQ(output.load[3].item<int64_t>(), 0);
    EXPECT_EQ(output.load.sum().item<int64_t>(), 2 * tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      torch::Tensor expected = torch::zeros({6}, options);
      for (int64_t k = 0; k < 2; ++k) {
        const int64_t e = routing.experts[t][k].item<int64_t>();
        const torch::Tensor inner = torch::silu(weights.gate[e].mv(x[t])) * weights.up[e].mv(x[t]);
        expected += weights.down[e].mv(inner) * routing.weights[t][k];
      }
      EXPECT_TRUE(torch::allclose(output.output[t], expected, 1e-10, 1e-12)) << t;
    }
  }
}

TEST(ExpertLayer, WeightsAreScoresWithoutTheBias) {
  const torch::Tensor logits = torch::tensor({{0.0, 1.0, -1.0}}, torch::kFloat64);
  const torch::Tensor bias = torch::tensor({0.0, -9.0, 0.0}, torch::kFloat64);
  const Routing routing = route(logits, bias, 2);
  EXPECT_EQ(routing.experts[0][0].item<int64_t>(), 0);
  EXPECT_EQ(routing.experts[0][1].item<int64_t>(), 2);
  const double first = 0.5, second = 1 / (1 + std::exp(1.0));
  EXPECT_NEAR(routing.weights[0][0].item<double>(), first / (first + second), 1e-12);
  EXPECT_NEAR(routing.weights.sum().item<double>(), 1, 1e-12);
}

TEST(LanguageNet, BalancingMovesTokensFromBusyExperts) {
  LanguageNet net(language_config(small_shape()), {}, 1);
  const torch::Tensor load = torch::tensor({8, 0, 4, 4}, torch::kInt64);
  net.balance({load, load}, 0.125);
  for (const int layer : {1, 2}) {
    const torch::Tensor bias =
        net.at(fmt::format("model.layers.{}.mlp.gate.e_score_correction_bias", layer));
    EXPECT_TRUE(torch::equal(bias, torch::tensor({-0.125F, 0.125F, 0.0F, 0.0F})));
  }
}

LanguageShape roundable_shape() {
  LanguageShape shape = small_shape();
  shape.hidden_size = 64;
  shape.moe_intermediate_size = 32;
  return shape;
}

TEST(LanguageNet, RoundingChangesExpertsAlone) {
  NetOptions options;
  options.rounds = true;
  const LanguageNet rounds(language_config(roundable_shape()), options, 1);
  LanguageNet plain(language_config(roundable_shape()), {}, 1);
  const torch::NoGradGuard no_grad;
  const torch::Tensor ids = small_ids(), other = rounds.forward(ids).hidden;
  EXPECT_FALSE(torch::allclose(plain.forward(ids).hidden, other));
  for (const Parameter& p : rounds.parameters()) {
    if (is_expert(p)) plain.set(p.name, round_to_mxfp4(p.value));
  }
  EXPECT_TRUE(torch::equal(plain.forward(ids).hidden, other));
}

// The gradient of rounded experts is the one at the rounded weights.
TEST(LanguageNet, GradientsPassThroughTheRounding) {
  NetOptions options;
  options.rounds = true;
  LanguageNet rounds(language_config(roundable_shape()), options, 1);
  LanguageNet plain(language_config(roundable_shape()), {}, 1);
  for (const Parameter& p : rounds.parameters()) {
    if (is_expert(p)) plain.set(p.name, round_to_mxfp4(p.value));
  }
  const torch::Tensor ids = small_ids();
  const torch::Tensor direction = torch::randn({2, 5, 64});
  (rounds.forward(ids).hidden * direction).sum().backward();
  (plain.forward(ids).hidden * direction).sum().backward();
  for (const Parameter& p : rounds.parameters()) {
    if (!is_expert(p)) continue;
    EXPECT_GT(p.value.grad().abs().max().item<float>(), 0) << p.name;
    EXPECT_TRUE(torch::equal(p.value.grad(), plain.at(p.name).grad())) << p.name;
  }
}

TEST(LanguageNet, Bf16ProductsAreNearThoseOfF32) {
  NetOptions options;
  options.compute = torch::kBFloat16;
  const LanguageNet exact(language_config(roundable_shape()), {}, 1),
      rounded(language_config(roundable_shape()), options, 1);
  const torch::NoGradGuard no_grad;
  const torch::Tensor a = exact.forward(small_ids()).hidden;
  const torch::Tensor b = rounded.forward(small_ids()).hidden;
  EXPECT_EQ(b.scalar_type(), torch::kFloat32);
  const double difference = (a - b).norm().item<double>() / a.norm().item<double>();
  EXPECT_GT(difference, 1e-5);
  EXPECT_LT(difference, 0.05);
}

}  // namespace
}  // namespace ultraspeed::train
