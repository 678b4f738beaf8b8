// An exported net in the engine: the same configuration and the same logits, before and after the
// quantizer; and what the quantizer makes of it is what training computed with.
#include "train/language_export.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "model/checkpoint.h"
#include "model/tensor_names.h"
#include "quantize/quantizer.h"
#include "support/dequantize.h"
#include "support/model_runner.h"
#include "support/temporary_directory.h"
#include "train/language_files.h"
#include "train/mxfp4_rounding.h"

namespace ultraspeed::test {
namespace {

constexpr double kTolerance = 1e-4;  // relative to the largest logit
const std::vector<int32_t> kText = {3,  41, 59, 26, 53, 58, 27, 23, 23, 4, 62, 64, 33, 3,
                                    27, 15, 2,  8,  41, 27, 16, 93, 99, 0, 7,  50, 58, 9};

train::LanguageShape exported_shape() {
  train::LanguageShape shape;
  shape.vocab_size = 128;
  shape.hidden_size = 64;
  shape.num_layers = 4;
  shape.intermediate_size = 96;
  shape.num_experts = 8;
  shape.num_experts_per_token = 3;
  shape.moe_intermediate_size = 32;
  shape.num_q_heads = 4;
  shape.num_kv_heads = 2;
  shape.head_dim = 32;
  shape.v_head_dim = 32;
  shape.rotary_dim = 12;
  shape.sliding_window = 5;
  return shape;
}

// Weights of which none is where it begins, as an export will hold them.
train::LanguageNet random_language_net(bool rounds) {
  train::NetOptions options;
  options.rounds = rounds;
  train::LanguageNet net(train::language_config(exported_shape()), options, 1);
  torch::manual_seed(3);
  for (const train::Parameter& p : net.parameters()) {
    const double size = p.value.dim() < 2 ? 0.2 : 0.1;
    net.set(p.name, p.value + torch::randn_like(p.value) * size);
  }
  return net;
}

torch::Tensor engine_logits(const std::string& directory) {
  RunnerOptions options;
  options.width = 16;
  options.max_context = 64;
  auto runner = ModelRunner::open(directory, options);
  EXPECT_TRUE(runner.has_value()) << runner.error().message;
  const auto vocab = runner->config().vocab_size;
  const auto top = runner->feed(kText, kText.size(), vocab);
  EXPECT_TRUE(top.has_value()) << top.error().message;
  torch::Tensor logits = torch::empty({static_cast<int64_t>(kText.size()), vocab});
  for (size_t row = 0; row < top->size(); ++row) {
    for (size_t i = 0; i < vocab; ++i) {
      logits.data_ptr<float>()[row * vocab + static_cast<size_t>((*top)[row].ids[i])] =
          (*top)[row].logits[i];
    }
  }
  return logits;
}

torch::Tensor net_logits(train::LanguageNet net) {
  for (const train::Parameter& p : net.parameters()) net.set(p.name, net.exported(p));
  const torch::NoGradGuard no_grad;
  std::vector<int64_t> ids(kText.begin(), kText.end());
  const torch::Tensor hidden = net.forward(torch::tensor(ids, torch::kInt64).unsqueeze(0)).hidden;
  return net.logits(hidden).squeeze(0);
}

double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

std::string quantized(const std::string& source, const std::string& target) {
  quantize::QuantizeOptions options;
  options.source = source;
  options.linears.linears = quantize::LinearForm::kKeep;
  const auto result = quantize::quantize(options, OutputFolder(target));
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return target;
}

TEST(LanguageExport, TheEngineComputesTheSameLogits) {
  const TemporaryDirectory directory;
  const train::LanguageNet net = random_language_net(false);
  ASSERT_TRUE(export_language(net, directory.path(), "").has_value());
  const torch::Tensor expected = net_logits(net);
  EXPECT_GT(expected.abs().max().item<float>(), 1);
  EXPECT_LT(relative_difference(engine_logits(directory.path()), expected), kTolerance);
}

TEST(LanguageExport, TheComparisonNoticesAWindowAndASink) {
  const TemporaryDirectory directory;
  const train::LanguageNet net = random_language_net(false);
  ASSERT_TRUE(export_language(net, directory.path(), "").has_value());
  const torch::Tensor engine = engine_logits(directory.path());
  train::LanguageShape shape = exported_shape();
  shape.sliding_window = 6;
  train::LanguageNet wider(train::language_config(shape), {}, 1);
  for (const train::Parameter& p : net.parameters()) wider.set(p.name, p.value);
  EXPECT_GT(relative_difference(net_logits(wider), engine), 10 * kTolerance);
  train::LanguageNet sinks = random_language_net(false);
  const std::string name = "model.layers.1.self_attn.attention_sink_bias";
  sinks.set(name, sinks.at(name) + 0.5);
  EXPECT_GT(relative_difference(net_logits(sinks), engine), 10 * kTolerance);
}

// Round to nearest twice, as an export to BF16 of unrounded masters would be, moves codes.
TEST(LanguageExport, QuantisingARoundingNetGivesWhatTrainingSaw) {
  const TemporaryDirectory folders;
  const train::LanguageNet net = random_language_net(true);
  const std::string source = folders.path() + "/qat", target = folders.path() + "/quantised";
  ASSERT_TRUE(export_language(net, source, "").has_value());
  quantized(source, target);
  const auto checkpoint = model::Checkpoint::open(target);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  const auto config = model::ModelConfig::load(target);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  const model::WeightLoader loader(*checkpoint, *config);
  for (uint32_t layer = 1; layer < 4; ++layer) {
    const auto seen = [&](std::string_view module) {
      return train::round_to_mxfp4(
          net.at(fmt::format("model.layers.{}.mlp.experts.{}.weight", layer, module)).detach());
    };
    const torch::Tensor gate = seen(model::kExpertGateModule), up = seen(model::kExpertUpModule),
                        down = seen(model::kExpertDownModule);
    for (uint32_t expert = 0; expert < 8; ++expert) {
      const auto stored = [&](model::TensorRole role) {
        const model::WeightSource weight = {role, layer, expert, 0, 1, model::Stack::kTarget};
        const auto shape = loader.shape(weight);
        EXPECT_TRUE(shape.has_value()) << shape.error().message;
        EXPECT_EQ(shape->format, tensor::WeightFormat::kMxfp4);
        std::vector<std::byte> packed(shape->bytes);
        EXPECT_TRUE(loader.load(weight, packed).has_value());
        return torch::tensor(dequantize(*shape, packed)).view({shape->rows, shape->columns});
      };
      const torch::Tensor gate_up = torch::cat({gate[expert], up[expert]});
      EXPECT_TRUE(torch::equal(stored(model::TensorRole::kExpertGateUp), gate_up));
      EXPECT_TRUE(torch::equal(stored(model::TensorRole::kExpertDown), down[expert]));
    }
  }
  EXPECT_LT(relative_difference(engine_logits(target), net_logits(net)), kTolerance);
}

TEST(LanguageExport, TheEngineReadsTheConfiguration) {
  train::LanguageShape shape = exported_shape();
  for (const uint32_t rotary : {2u, 12u, 32u}) {
    shape.rotary_dim = rotary;
    const model::ModelConfig config = train::language_config(shape);
    const auto read = model::ModelConfig::parse("x", train::language_config_json(config));
    ASSERT_TRUE(read.has_value()) << read.error().message;
    EXPECT_EQ(read->hidden_size, config.hidden_size);
    EXPECT_EQ(read->num_experts, config.num_experts);
    EXPECT_EQ(read->num_experts_per_token, config.num_experts_per_token);
    EXPECT_EQ(read->attention_value_scale, config.attention_value_scale);
    EXPECT_EQ(read->eos_token_ids, config.eos_token_ids);
    ASSERT_EQ(read->num_layers(), config.num_layers());
    for (size_t i = 0; i < config.layers.size(); ++i) {
      const model::LayerConfig &a = read->layers[i], &b = config.layers[i];
      EXPECT_EQ(a.is_sliding, b.is_sliding) << i;
      EXPECT_EQ(a.is_moe, b.is_moe) << i;
      EXPECT_EQ(a.has_sink, b.has_sink) << i;
      EXPECT_EQ(a.rotary_dim, b.rotary_dim) << i;
      EXPECT_EQ(a.rope, b.rope) << i;
      EXPECT_EQ(a.sliding_window, b.sliding_window) << i;
      EXPECT_EQ(a.qkv_rows(), b.qkv_rows()) << i;
    }
  }
}

TEST(LanguageExport, TakesATokenizerAndRefusesWhatIsNotFinite) {
  const TemporaryDirectory folders;
  const std::string from = folders.path() + "/from", to = folders.path() + "/to";
  std::filesystem::create_directories(from);
  std::ofstream(from + "/tokenizer.json") << "{}";
  train::LanguageNet net = random_language_net(false);
  ASSERT_TRUE(export_language(net, to, from).has_value());
  EXPECT_TRUE(std::filesystem::exists(to + "/tokenizer.json"));
  net.set("model.norm.weight", torch::full_like(net.at("model.norm.weight"), NAN));
  const auto status = export_language(net, to, "");
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().message.find("'model.norm.weight' has a number"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::test
