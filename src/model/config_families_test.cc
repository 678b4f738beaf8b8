// Families that are read for their shapes: the published files, the parameters of their model
// cards, what is refused, and that none of them is loaded.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/weights.h"
#include "support/published_config.h"

namespace ultraspeed::model {
namespace {

using nlohmann::json;
using test::load_published;
using test::published;

constexpr const char* kLlama = "llama-3.2-1b";
constexpr const char* kGptOss = "gpt-oss-20b";

// The published file with one key replaced (null removes the value).
void expect_error(const char* name, const std::string& key, const json& value, ErrorCode code,
                  const std::string& part) {
  json config = published(name);
  config[key] = value;
  test::expect_config_error(test::parse_config(config), code, part);
}

TEST(ShapeConfig, ReadsLlama) {
  const ModelConfig config = load_published(kLlama);
  EXPECT_EQ(config.exactness, Exactness::kShapeOnly);
  EXPECT_EQ(config.hidden_size, 2048U);
  EXPECT_EQ(config.intermediate_size, 8192U);
  EXPECT_EQ(config.vocab_size, 128256U);
  EXPECT_EQ(config.max_position_embeddings, 131072U);
  EXPECT_EQ(config.rms_norm_eps, 1e-5F);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_FALSE(config.has_biases);
  EXPECT_EQ(config.num_experts, 0U);
  EXPECT_EQ(config.qkv_layout, QkvLayout::kSplit);
  ASSERT_EQ(config.num_layers(), 16U);
  for (const LayerConfig& layer : config.layers) {
    EXPECT_EQ(layer.num_q_heads, 32U);
    EXPECT_EQ(layer.num_kv_heads, 8U);
    EXPECT_EQ(layer.head_dim, 64U);
    EXPECT_EQ(layer.v_head_dim, 64U);
    EXPECT_EQ(layer.rotary_dim, 64U);
    EXPECT_EQ(layer.rope_theta, 5e5F);
    EXPECT_FALSE(layer.is_sliding || layer.has_sink || layer.is_moe || layer.has_qk_norm);
    EXPECT_EQ(layer.sliding_window, 0U);
  }
  for (const TensorRole role : {TensorRole::kQkvProj, TensorRole::kOProj, TensorRole::kDenseGateUp,
                                TensorRole::kDenseDown, TensorRole::kLmHead}) {
    EXPECT_EQ(expected_format(config, role, 3), tensor::WeightFormat::kBf16);
  }
}

TEST(ShapeConfig, ReadsGptOss) {
  const ModelConfig config = load_published(kGptOss);
  EXPECT_EQ(config.exactness, Exactness::kShapeOnly);
  EXPECT_EQ(config.hidden_size, 2880U);
  EXPECT_EQ(config.moe_intermediate_size, 2880U);
  EXPECT_EQ(config.num_experts, 32U);
  EXPECT_EQ(config.num_experts_per_token, 4U);
  EXPECT_TRUE(config.has_biases);
  EXPECT_FALSE(config.tie_word_embeddings);
  ASSERT_EQ(config.num_layers(), 24U);
  for (uint32_t i = 0; i < 24; ++i) {
    const LayerConfig& layer = config.layers[i];
    EXPECT_EQ(layer.is_sliding, i % 2 == 0);
    EXPECT_EQ(layer.sliding_window, i % 2 == 0 ? 128U : 0U);
    EXPECT_TRUE(layer.has_sink && layer.is_moe);
    EXPECT_EQ(layer.q_rows(), 4096U);
    EXPECT_EQ(layer.qkv_rows(), 5120U);
    EXPECT_EQ(layer.rotary_dim, 64U);
    EXPECT_EQ(layer.rope_theta, 150000.0F);
  }
  EXPECT_EQ(expected_format(config, TensorRole::kExpertDown, 0), tensor::WeightFormat::kMxfp4);
  EXPECT_EQ(expected_format(config, TensorRole::kQkvProj, 0), tensor::WeightFormat::kBf16);
  EXPECT_EQ(load_published("gpt-oss-120b").num_experts, 128U);
  json plain = published(kGptOss);
  plain.erase("quantization_config");
  EXPECT_EQ(expected_format(test::parse_config(plain).value(), TensorRole::kExpertDown, 0),
            tensor::WeightFormat::kBf16);
}

// Of the model cards: 1.24 B; 20.91 B and 3.61 B, where active ones leave the embedding table out.
TEST(ShapeConfig, CountsParameters) {
  const ModelConfig llama = load_published(kLlama);
  // Layers: 2048 * (3072 + 2048) + 3 * 2048 * 8192 + 2 * 2048; a tied table; a norm.
  EXPECT_EQ(count_parameters(llama).total, 1235814400U);
  EXPECT_EQ(count_parameters(llama).active, 1235814400U);
  EXPECT_EQ(count_biases(llama, 0), 0U);
  const ModelConfig gpt_oss = load_published(kGptOss);
  const ParameterCount count = count_parameters(gpt_oss);
  const uint64_t table = uint64_t{201088} * 2880;
  EXPECT_NEAR(static_cast<double>(count.total) * 1e-9, 20.91, 0.01);
  EXPECT_NEAR(static_cast<double>(count.active - table) * 1e-9, 3.61, 0.01);
  EXPECT_EQ(count_biases(gpt_oss, 4), uint64_t{24} * (5120 + 2880 + 4 * 3 * 2880));
  EXPECT_NEAR(static_cast<double>(count_parameters(load_published("gpt-oss-120b")).total) * 1e-9,
              116.83, 0.01);
}

TEST(ShapeConfig, ReadsNewerKeys) {
  json config = published(kLlama);
  config.erase("rope_theta");
  config.erase("rope_scaling");
  config.erase("head_dim");
  config["rope_parameters"] = {{"rope_type", "llama3"}, {"rope_theta", 1e4}};
  const auto llama = test::parse_config(config);
  ASSERT_TRUE(llama.has_value()) << llama.error().message;
  EXPECT_EQ(llama->layers[0].rope_theta, 1e4F);
  EXPECT_EQ(llama->layers[0].head_dim, 64U);
}

TEST(ShapeConfig, NamesWhatWouldChangeAShape) {
  const auto unsupported = [](const char* name, const std::string& key, const json& value,
                              const std::string& part) {
    expect_error(name, key, value, ErrorCode::kUnsupported, part);
  };
  unsupported(kLlama, "attention_bias", true, "key 'attention_bias' is true");
  unsupported(kLlama, "mlp_bias", true, "key 'mlp_bias'");
  unsupported(kLlama, "hidden_act", "gelu", "only \"silu\" is");
  unsupported(kLlama, "quantization_config", {{"quant_method", "fp8"}}, "weights are BF16");
  unsupported(kLlama, "rope_scaling", {{"rope_type", "yarn"}},
              "only \"default\" and \"llama3\" are");
  unsupported(kLlama, "rope_parameters", {{"rope_type", "linear"}},
              "key 'rope_parameters.rope_type'");
  unsupported(kGptOss, "attention_bias", false, "only true is");
  unsupported(kGptOss, "quantization_config", {{"quant_method", "fp8"}}, "only \"mxfp4\" is");
  unsupported(kGptOss, "rope_scaling", {{"rope_type", "llama3"}},
              "only \"default\" and \"yarn\" are");
  unsupported(kGptOss, "intermediate_size", 2890, "key 'intermediate_size' is 2890");
}

TEST(ShapeConfig, NamesValuesOutOfRange) {
  const auto invalid = [](const char* name, const std::string& key, const json& value) {
    expect_error(name, key, value, ErrorCode::kInvalidData, "'" + key + "'");
  };
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "rope_theta", "vocab_size", "rms_norm_eps"}) {
    for (const char* name : {kLlama, kGptOss}) {
      invalid(name, key, nullptr);
      invalid(name, key, 0);
    }
  }
  for (const char* key :
       {"layer_types", "sliding_window", "num_local_experts", "num_experts_per_tok"}) {
    invalid(kGptOss, key, nullptr);
  }
  invalid(kLlama, "num_key_value_heads", 7);
  invalid(kLlama, "head_dim", 63);
  invalid(kGptOss, "layer_types", {"full_attention"});
  invalid(kGptOss, "layer_types", std::vector<std::string>(24, "linear_attention"));
  invalid(kGptOss, "num_experts_per_tok", 33);
  expect_error(kGptOss, "quantization_config", {{"fmt", "e2m1"}}, ErrorCode::kInvalidData,
               "'quantization_config.quant_method' is missing");
  json narrow = published(kLlama);
  narrow.erase("head_dim");
  narrow["num_attention_heads"] = 64;
  narrow["hidden_size"] = 64;  // one dimension a head
  EXPECT_NE(
      test::parse_config(narrow).error().message.find("hidden_size / num_attention_heads = 1"),
      std::string::npos);
}

TEST(ShapeConfig, IsNotLoaded) {
  EXPECT_TRUE(check_loadable(load_published("mimo-v2.5-pro")).has_value());
  for (const char* name : {kLlama, kGptOss}) {
    const Status loadable = check_loadable(load_published(name));
    ASSERT_FALSE(loadable.has_value());
    EXPECT_EQ(loadable.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(loadable.error().message.find("planned and timed by their shapes only"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace ultraspeed::model
