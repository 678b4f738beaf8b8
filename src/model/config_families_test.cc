// Families besides MiMo-V2: the published files, the parameters of their model cards, what is
// refused.
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

TEST(FamilyConfig, ReadsLlama) {
  const ModelConfig config = load_published(kLlama);
  EXPECT_EQ(config.hidden_size, 2048U);
  EXPECT_EQ(config.intermediate_size, 8192U);
  EXPECT_EQ(config.vocab_size, 128256U);
  EXPECT_EQ(config.max_position_embeddings, 131072U);
  EXPECT_EQ(config.rms_norm_eps, 1e-5F);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_FALSE(config.has_attention_biases);
  EXPECT_EQ(config.num_experts, 0U);
  EXPECT_EQ(config.qkv_layout, QkvLayout::kSplit);
  ASSERT_EQ(config.num_layers(), 16U);
  for (const LayerConfig& layer : config.layers) {
    EXPECT_EQ(layer.num_q_heads, 32U);
    EXPECT_EQ(layer.num_kv_heads, 8U);
    EXPECT_EQ(layer.head_dim, 64U);
    EXPECT_EQ(layer.v_head_dim, 64U);
    EXPECT_EQ(layer.rotary_dim, 64U);
    EXPECT_EQ(layer.rope.theta, 5e5F);
    EXPECT_EQ(layer.rope.scaling, tensor::Rope::Scaling::kLlama3);
    EXPECT_EQ(layer.rope.factor, 32.0F);
    EXPECT_EQ(layer.rope.ramp_slow, 1.0F);
    EXPECT_EQ(layer.rope.ramp_fast, 4.0F);
    EXPECT_EQ(layer.rope.original_positions, 8192.0F);
    EXPECT_EQ(layer.rope.attention_factor, 1.0F);
    EXPECT_FALSE(layer.is_sliding || layer.has_sink || layer.is_moe || layer.has_qk_norm);
    EXPECT_EQ(layer.sliding_window, 0U);
  }
  for (const TensorRole role : {TensorRole::kQkvProj, TensorRole::kOProj, TensorRole::kDenseGateUp,
                                TensorRole::kDenseDown, TensorRole::kLmHead}) {
    EXPECT_EQ(expected_format(config, role, 3), tensor::WeightFormat::kBf16);
  }
}

TEST(FamilyConfig, ReadsGptOss) {
  const ModelConfig config = load_published(kGptOss);
  EXPECT_EQ(config.hidden_size, 2880U);
  EXPECT_EQ(config.moe_intermediate_size, 2880U);
  EXPECT_EQ(config.num_experts, 32U);
  EXPECT_EQ(config.num_experts_per_token, 4U);
  EXPECT_TRUE(config.has_attention_biases && config.has_expert_biases && config.has_router_bias);
  EXPECT_TRUE(config.has_softmax_router && config.norm_topk_prob);
  EXPECT_EQ(config.swiglu_limit, 7.0F);
  EXPECT_EQ(config.expert_layout, ExpertLayout::kBlocks);
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
    EXPECT_EQ(layer.rope.theta, 150000.0F);
    EXPECT_EQ(layer.rope.scaling, tensor::Rope::Scaling::kYarn);
    EXPECT_EQ(layer.rope.factor, 32.0F);
    // 64 ln(4096 / (2 pi beta)) / (2 ln 150000) with beta 32 and 1, not rounded.
    EXPECT_NEAR(layer.rope.ramp_fast, 8.0928, 1e-4);
    EXPECT_NEAR(layer.rope.ramp_slow, 17.3980, 1e-4);
    EXPECT_NEAR(layer.rope.attention_factor, 1.346574, 1e-6);  // 0.1 ln 32 + 1
  }
  EXPECT_EQ(expected_format(config, TensorRole::kExpertDown, 0), tensor::WeightFormat::kMxfp4);
  EXPECT_EQ(expected_format(config, TensorRole::kQkvProj, 0), tensor::WeightFormat::kBf16);
  EXPECT_EQ(load_published("gpt-oss-120b").num_experts, 128U);
}

// Of the model cards: 1.24 B; 20.91 B and 3.61 B, where active ones leave the embedding table out.
TEST(FamilyConfig, CountsParameters) {
  const ModelConfig llama = load_published(kLlama);
  // Layers: 2048 * (3072 + 2048) + 3 * 2048 * 8192 + 2 * 2048; a tied table; a norm.
  EXPECT_EQ(count_parameters(llama).total, 1235814400U);
  EXPECT_EQ(count_parameters(llama).active, 1235814400U);
  const ModelConfig gpt_oss = load_published(kGptOss);
  const ParameterCount count = count_parameters(gpt_oss);
  const uint64_t table = uint64_t{201088} * 2880;
  EXPECT_NEAR(static_cast<double>(count.total) * 1e-9, 20.91, 0.01);
  EXPECT_NEAR(static_cast<double>(count.active - table) * 1e-9, 3.61, 0.01);
  EXPECT_NEAR(static_cast<double>(count_parameters(load_published("gpt-oss-120b")).total) * 1e-9,
              116.83, 0.01);
}

TEST(FamilyConfig, ReadsNewerKeys) {
  json config = published(kLlama);
  config.erase("rope_theta");
  config.erase("rope_scaling");
  config.erase("head_dim");
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 1e4}};
  const auto llama = test::parse_config(config);
  ASSERT_TRUE(llama.has_value()) << llama.error().message;
  EXPECT_EQ(llama->layers[0].rope, tensor::Rope{.theta = 1e4F});
  EXPECT_EQ(llama->layers[0].head_dim, 64U);
}

TEST(FamilyConfig, NamesWhatWouldChangeAShape) {
  const auto unsupported = [](const char* name, const std::string& key, const json& value,
                              const std::string& part) {
    expect_error(name, key, value, ErrorCode::kUnsupported, part);
  };
  unsupported(kLlama, "mlp_bias", true, "key 'mlp_bias'");
  unsupported(kLlama, "hidden_act", "gelu", "only \"silu\" is");
  unsupported(kLlama, "quantization_config", {{"quant_method", "awq"}}, "only \"fp8\" is");
  unsupported(kLlama, "rope_scaling", {{"rope_type", "longrope"}}, "and \"yarn\" are");
  unsupported(kLlama, "rope_parameters", {{"rope_type", "linear"}},
              "key 'rope_parameters.rope_type'");
  unsupported(kGptOss, "attention_bias", false, "only true is");
  unsupported(kGptOss, "quantization_config", {{"quant_method", "fp8"}}, "only \"mxfp4\" is");
  unsupported(kGptOss, "intermediate_size", 2890, "key 'intermediate_size' is 2890");
}

TEST(FamilyConfig, NamesValuesOutOfRange) {
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

TEST(FamilyConfig, ReadsQwen3) {
  json dense = {{"model_type", "qwen3"},
                {"hidden_size", 4096},
                {"intermediate_size", 12288},
                {"num_hidden_layers", 36},
                {"num_attention_heads", 32},
                {"num_key_value_heads", 8},
                {"head_dim", 128},
                {"hidden_act", "silu"},
                {"attention_bias", false},
                {"rms_norm_eps", 1e-6},
                {"rope_theta", 1000000},
                {"rope_scaling", nullptr},
                {"sliding_window", nullptr},
                {"use_sliding_window", false},
                {"max_position_embeddings", 40960},
                {"vocab_size", 151936},
                {"eos_token_id", 151645}};
  const auto qwen3 = test::parse_config(dense);
  ASSERT_TRUE(qwen3.has_value()) << qwen3.error().message;
  EXPECT_EQ(count_parameters(*qwen3).total, 8190735360U);  // the model card's 8.2 B
  EXPECT_TRUE(qwen3->layers[35].has_qk_norm);
  EXPECT_EQ(qwen3->layers[0].rope, tensor::Rope{.theta = 1e6F});
  EXPECT_EQ(qwen3->eos_token_ids, std::vector<uint32_t>{151645});

  json experts = dense;
  experts.update({{"model_type", "qwen3_moe"},
                  {"hidden_size", 2048},
                  {"intermediate_size", 6144},
                  {"moe_intermediate_size", 768},
                  {"num_attention_heads", 32},
                  {"num_key_value_heads", 4},
                  {"num_hidden_layers", 48},
                  {"num_experts", 128},
                  {"num_experts_per_tok", 8},
                  {"norm_topk_prob", true},
                  {"decoder_sparse_step", 1},
                  {"mlp_only_layers", {2, 5}}});
  auto moe = test::parse_config(experts);
  ASSERT_TRUE(moe.has_value()) << moe.error().message;
  EXPECT_TRUE(moe->has_softmax_router && moe->norm_topk_prob);
  EXPECT_FALSE(moe->has_router_bias);
  for (uint32_t i = 0; i < 48; ++i) EXPECT_EQ(moe->layers[i].is_moe, i != 2 && i != 5);
  experts["mlp_only_layers"] = json::array();
  moe = test::parse_config(experts);
  EXPECT_EQ(count_parameters(*moe).total, 30532122624U);  // 30.5 B
  experts["decoder_sparse_step"] = 3;
  experts["norm_topk_prob"] = nullptr;
  moe = test::parse_config(experts);
  EXPECT_FALSE(moe->norm_topk_prob);
  for (uint32_t i = 0; i < 48; ++i) EXPECT_EQ(moe->layers[i].is_moe, i % 3 == 2);

  dense["use_sliding_window"] = true;
  test::expect_config_error(test::parse_config(dense), ErrorCode::kUnsupported,
                            "key 'use_sliding_window'");
  dense["layer_types"] = std::vector<std::string>(36, "full_attention");
  dense["layer_types"][7] = "sliding_attention";
  dense["sliding_window"] = 4096;
  const auto mixed = test::parse_config(dense);
  ASSERT_TRUE(mixed.has_value()) << mixed.error().message;
  EXPECT_EQ(mixed->layers[7].sliding_window, 4096U);
  EXPECT_FALSE(mixed->layers[8].is_sliding);
}

// transformers 5.17, _compute_yarn_parameters and _compute_llama3_parameters in binary32.
TEST(FamilyConfig, StretchesRope) {
  json config = published(kLlama);
  config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
  const auto yarn = test::parse_config(config);
  ASSERT_TRUE(yarn.has_value()) << yarn.error().message;
  const tensor::Rope& rope = yarn->layers[0].rope;
  // 64 ln(32768 / (2 pi 32)) / (2 ln 500000) = 12.42, of one turn 20.87: rounded outwards.
  EXPECT_EQ(rope.ramp_fast, 12.0F);
  EXPECT_EQ(rope.ramp_slow, 21.0F);
  EXPECT_NEAR(rope.attention_factor, 1.138629, 1e-6);
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, json>>{{"mscale", 1.0}, {"factor", nullptr}}) {
    json wrong = config;
    wrong["rope_scaling"][key] = value;
    EXPECT_FALSE(test::parse_config(wrong).has_value()) << key;
  }
  json narrow = published(kLlama);
  narrow["rope_scaling"]["high_freq_factor"] = 1.0;  // as the low one
  test::expect_config_error(test::parse_config(narrow), ErrorCode::kInvalidData,
                            "'rope_scaling.high_freq_factor'");
}

}  // namespace
}  // namespace ultraspeed::model
