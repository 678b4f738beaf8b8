// The net's gradients against finite differences, in double, for every kind of parameter; and what
// its types of numbers change.
#include "train/drafter_net.h"

#include <gtest/gtest.h>

#include <set>

#include "tensor/e4m3.h"
#include "train/fp8_rounding.h"
#include "train/gradient_check.h"

namespace ultraspeed::train {
namespace {

model::DrafterConfig small_config() {
  model::DrafterConfig config;
  config.hidden_size = 6;
  config.intermediate_size = 5;
  config.num_layers = 2;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  config.v_head_dim = 4;
  config.rotary_dim = 4;
  config.block_size = 3;
  config.has_mask_embedding = true;
  config.has_window_before_anchor = true;
  config.sliding_window = 3;
  config.layers = {{3, false}, {0, false}};  // one layer with a window, one without
  config.target_layer_ids = {0, 1};
  config.rope_theta = 100;
  config.rms_norm_eps = 1e-5F;
  config.attention_value_scale = 0.612F;
  config.has_sink = true;
  return config;
}

BlockBatch small_batch(torch::Dtype dtype) {
  torch::manual_seed(3);
  BlockBatch batch;
  batch.features = torch::randn({9, 12}, dtype);
  batch.positions = torch::tensor({0, 1, 2, 3, 0, 1, 2, 3, 4}, torch::kInt64);
  batch.sequence_begin = torch::tensor({0, 4, 4}, torch::kInt64);
  batch.anchor_row = torch::tensor({2, 5, 8}, torch::kInt64);
  batch.anchors = torch::randn({3, 6}, dtype);
  return batch;
}

// Parameters away from where they begin, so that none is at a symmetric point.
void disturb(DrafterNet* net) {
  torch::manual_seed(7);
  for (const Parameter& p : net->parameters()) {
    const torch::NoGradGuard no_grad;
    net->set(p.name, p.value + torch::randn_like(p.value) * 0.3);
  }
}

TEST(DrafterNet, GradientsEqualFiniteDifferences) {
  NetOptions options;
  options.master = options.compute = torch::kFloat64;
  DrafterNet net(small_config(), options, 1);
  disturb(&net);
  const BlockBatch batch = small_batch(torch::kFloat64);
  const torch::Tensor direction = torch::randn({3, 3, 6}, torch::kFloat64);
  (net.forward(batch) * direction).sum().backward();
  const auto value = [&] { return (net.forward(batch) * direction).sum().item<double>(); };
  expect_central_differences(net.parameters(), value, 1e-5, 1e-6);
}

TEST(DrafterNet, HasTheNamesOfItsFiles) {
  const DrafterNet net(small_config(), {}, 1);
  std::set<std::string> names;
  for (const Parameter& p : net.parameters()) {
    names.insert(p.name);
    EXPECT_EQ(p.kind == ParameterKind::kMatrix, p.value.dim() == 2) << p.name;
  }
  EXPECT_EQ(names.size(), 3 + 2 * 12 + 1u);
  for (const char* name : {"fc.weight", "hidden_norm.weight", "norm.weight", "mask_embedding",
                           "layers.1.self_attn.attention_sink_bias", "layers.0.mlp.up_proj.weight",
                           "layers.1.post_attention_layernorm.weight"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST(DrafterNet, BeginsWithWeightsOfItsSeed) {
  const DrafterNet one(small_config(), {}, 1), same(small_config(), {}, 1),
      other(small_config(), {}, 2);
  EXPECT_TRUE(torch::equal(one.at("fc.weight"), same.at("fc.weight")));
  EXPECT_FALSE(torch::equal(one.at("fc.weight"), other.at("fc.weight")));
  EXPECT_FALSE(
      torch::equal(one.at("layers.0.mlp.up_proj.weight"), one.at("layers.1.mlp.up_proj.weight")));
}

// BF16 products: 8 bits of mantissa over a few layers.
TEST(DrafterNet, Bf16ProductsAreNearThoseOfF32) {
  NetOptions options;
  options.compute = torch::kBFloat16;
  const DrafterNet exact(small_config(), {}, 1), rounded(small_config(), options, 1);
  const BlockBatch batch = small_batch(torch::kFloat32);
  const torch::NoGradGuard no_grad;
  const torch::Tensor a = exact.forward(batch), b = rounded.forward(batch);
  EXPECT_EQ(b.scalar_type(), torch::kFloat32);
  const double difference = (a - b).norm().item<double>() / a.norm().item<double>();
  EXPECT_GT(difference, 1e-5);
  EXPECT_LT(difference, 0.05);
}

// As the formats' own conversion does it, in whole and in cut blocks.
TEST(Fp8Rounding, GivesTheNearestCodeUnderTheBlocksScale) {
  torch::manual_seed(5);
  torch::Tensor matrix = torch::randn({200, 140});
  matrix.narrow(0, 128, 72).mul_(1e-3);
  matrix.narrow(0, 0, 3).mul_(1e-4);  // subnormal codes
  matrix[5][139] = 300;
  const torch::Tensor rounded = round_to_fp8(matrix);
  for (const auto& [row, rows] : {std::pair<int64_t, int64_t>{0, 128}, {128, 72}}) {
    for (const auto& [column, columns] : {std::pair<int64_t, int64_t>{0, 128}, {128, 12}}) {
      const auto block_of = [&](const torch::Tensor& m) {
        return m.narrow(0, row, rows).narrow(1, column, columns).contiguous();
      };
      const torch::Tensor from = block_of(matrix), to = block_of(rounded);
      const float scale = from.abs().max().item<float>() / tensor::kE4m3Max;
      for (int64_t i = 0; i < from.numel(); ++i) {
        const uint8_t code = tensor::e4m3_from_float(from.data_ptr<float>()[i] / scale);
        ASSERT_EQ(to.data_ptr<float>()[i], tensor::e4m3_to_float(code) * scale)
            << row << " " << column << " " << i;
      }
    }
  }
  EXPECT_EQ(round_to_fp8(torch::zeros({3, 4})).abs().max().item<float>(), 0);
}

TEST(Fp8Rounding, LetsGradientsPass) {
  const torch::Tensor matrix = torch::randn({4, 5}).requires_grad_(true);
  const torch::Tensor direction = torch::randn({4, 5});
  (round_to_fp8(matrix) * direction).sum().backward();
  EXPECT_TRUE(torch::equal(matrix.grad(), direction));
}

}  // namespace
}  // namespace ultraspeed::train
