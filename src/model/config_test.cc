// config.json: the published files give the table of their model cards, and every malformed or
// unsupported key is named.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "model/config.h"
#include "support/published_config.h"
#include "support/temporary_directory.h"

namespace ultraspeed::model {
namespace {

using nlohmann::json;
using test::configs_path;
using test::expect_config_error;
using test::load_published;
using test::parse_config;
using test::published;

std::vector<uint32_t> full_layers(const ModelConfig& config) {
  std::vector<uint32_t> indices;
  for (uint32_t i = 0; i < config.num_layers(); ++i) {
    if (!config.layers[i].is_sliding) indices.push_back(i);
  }
  return indices;
}

// The published Pro file with one key replaced (null removes the value).
Result<ModelConfig> parse_with(const std::string& key, const json& value) {
  json config = published("mimo-v2.5-pro");
  config[key] = value;
  return parse_config(config);
}

TEST(ModelConfig, ReadsMimoV25Pro) {
  const ModelConfig config = load_published("mimo-v2.5-pro");
  EXPECT_EQ(config.model_type, "mimo_v2");
  EXPECT_EQ(config.hidden_size, 6144U);
  ASSERT_EQ(config.num_layers(), 70U);
  EXPECT_EQ(full_layers(config), (std::vector<uint32_t>{0, 7, 15, 23, 31, 39, 47, 55, 62, 69}));
  const LayerConfig& full = config.layers[0];
  EXPECT_EQ(full.num_q_heads, 128U);
  EXPECT_EQ(full.num_kv_heads, 8U);
  EXPECT_EQ(full.head_dim, 192U);
  EXPECT_EQ(full.v_head_dim, 128U);
  EXPECT_EQ(full.rotary_dim, 64U);
  EXPECT_EQ(full.rope.theta, 1e7F);
  EXPECT_EQ(full.sliding_window, 0U);
  EXPECT_FALSE(full.has_sink);
  EXPECT_FALSE(full.is_moe);
  EXPECT_EQ(full.qkv_rows(), 27136U);
  EXPECT_EQ(full.attention_output_size(), 16384U);
  const LayerConfig& sliding = config.layers[1];
  EXPECT_TRUE(sliding.is_sliding);
  EXPECT_EQ(sliding.num_kv_heads, 8U);
  EXPECT_EQ(sliding.rope.theta, 1e4F);
  EXPECT_EQ(sliding.sliding_window, 128U);
  EXPECT_TRUE(sliding.has_sink);
  EXPECT_TRUE(sliding.is_moe);
  EXPECT_EQ(config.intermediate_size, 16384U);
  EXPECT_EQ(config.moe_intermediate_size, 2048U);
  EXPECT_EQ(config.num_experts, 384U);
  EXPECT_EQ(config.num_experts_per_token, 8U);
  EXPECT_TRUE(config.norm_topk_prob);
  EXPECT_EQ(config.routed_scaling_factor, 1.0F);
  EXPECT_EQ(config.rms_norm_eps, 1e-5F);
  EXPECT_EQ(config.vocab_size, 152576U);
  EXPECT_EQ(config.max_position_embeddings, 1048576U);
  EXPECT_EQ(config.attention_value_scale, 0.612F);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.qkv_layout, QkvLayout::kFused);
  EXPECT_EQ(config.qkv_chunks, 8U);
  EXPECT_TRUE(config.quantization.has_fp8_linears);
  EXPECT_TRUE(config.quantization.has_mxfp4_experts);
  EXPECT_TRUE(config.quantization.is_ignored("model.layers.69.self_attn.o_proj"));
  EXPECT_FALSE(config.quantization.is_ignored("model.layers.69.self_attn.qkv_proj"));
}

TEST(ModelConfig, ReadsMimoV2Flash) {
  const ModelConfig config = load_published("mimo-v2-flash");
  EXPECT_EQ(config.model_type, "mimo_v2_flash");
  EXPECT_EQ(config.hidden_size, 4096U);
  ASSERT_EQ(config.num_layers(), 48U);
  EXPECT_EQ(full_layers(config), (std::vector<uint32_t>{0, 5, 11, 17, 23, 29, 35, 41, 47}));
  EXPECT_EQ(config.layers[0].num_q_heads, 64U);
  EXPECT_EQ(config.layers[0].num_kv_heads, 4U);
  EXPECT_EQ(config.layers[1].num_kv_heads, 8U);
  EXPECT_EQ(config.layers[0].rope.theta, 5e6F);
  EXPECT_EQ(config.layers[0].rotary_dim, 64U);
  EXPECT_EQ(config.num_experts, 256U);
  EXPECT_EQ(config.attention_value_scale, 0.707F);
  EXPECT_EQ(config.max_position_embeddings, 262144U);
  EXPECT_EQ(config.qkv_layout, QkvLayout::kSplit);
  EXPECT_FALSE(config.quantization.has_mxfp4_experts);
  EXPECT_TRUE(config.quantization.has_fp8_linears);
}

TEST(ModelConfig, ReadsMimoV26FlashAndTheFp8Pro) {
  const ModelConfig flash = load_published("mimo-v2.6-flash");
  EXPECT_EQ(flash.qkv_layout, QkvLayout::kFused);
  EXPECT_EQ(flash.qkv_chunks, 4U);
  EXPECT_EQ(flash.rms_norm_eps, 1e-6F);
  EXPECT_EQ(flash.layers[0].rope.theta, 1e7F);
  EXPECT_TRUE(flash.quantization.has_mxfp4_experts);
  const ModelConfig pro = load_published("mimo-v2.5-pro-fp8");
  EXPECT_EQ(pro.qkv_chunks, 8U);
  EXPECT_FALSE(pro.quantization.has_mxfp4_experts);
}

TEST(ModelConfig, ReadsTheBundledModel) {
  const auto config = ModelConfig::load(std::string(US_SOURCE_DIR) + "/models/tiny-mimo");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->hidden_size, 512U);
  EXPECT_EQ(full_layers(*config), (std::vector<uint32_t>{0, 3, 7}));
  EXPECT_EQ(config->layers[0].rotary_dim, 32U);
  EXPECT_EQ(config->layers[0].num_kv_heads, 2U);
  EXPECT_EQ(config->layers[1].num_kv_heads, 4U);
  EXPECT_EQ(config->num_experts, 32U);
  EXPECT_EQ(config->eos_token_ids, std::vector<uint32_t>{2});
  EXPECT_TRUE(config->quantization.ignored_layers.empty());
}

// Derived by hand for Pro: attention 70 * 6144 * (27136 + 16384), experts 69 * 384 * 3 * 6144 *
// 2048, router, the dense layer, embedding and head: the published 1.02T and 42B (309B and 15B for
// Flash).
TEST(ModelConfig, CountsParameters) {
  const ParameterCount pro = count_parameters(load_published("mimo-v2.5-pro"));
  EXPECT_NEAR(static_cast<double>(pro.total) * 1e-9, 1021.25, 0.005);
  EXPECT_NEAR(static_cast<double>(pro.active) * 1e-9, 41.89, 0.01);
  const ParameterCount flash = count_parameters(load_published("mimo-v2-flash"));
  EXPECT_NEAR(static_cast<double>(flash.total) * 1e-9, 308.8, 0.05);
  EXPECT_NEAR(static_cast<double>(flash.active) * 1e-9, 15.45, 0.01);
}

TEST(ModelConfig, ReadsTransformersKeyNames) {
  json config = published("mimo-v2-flash");
  json layer_types = json::array();
  for (const auto& is_sliding : config["hybrid_layer_pattern"]) {
    layer_types.push_back(is_sliding == 1 ? "sliding_attention" : "full_attention");
  }
  json mlp_types = json::array();
  for (const auto& is_moe : config["moe_layer_freq"]) {
    mlp_types.push_back(is_moe == 1 ? "sparse" : "dense");
  }
  const auto published_config = parse_config(config);
  ASSERT_TRUE(published_config.has_value()) << published_config.error().message;
  config["layer_types"] = layer_types;
  config["mlp_layer_types"] = mlp_types;
  config["rms_norm_eps"] = 1e-5;
  config["num_local_experts"] = config["n_routed_experts"];
  for (const auto& [kind, theta] :
       {std::pair("full_attention", 5e6), std::pair("sliding_attention", 1e4)}) {
    config["rope_parameters"][kind] = {
        {"rope_type", "default"}, {"rope_theta", theta}, {"partial_rotary_factor", 0.334}};
  }
  for (const char* key : {"hybrid_layer_pattern", "moe_layer_freq", "layernorm_epsilon",
                          "rope_theta", "swa_rope_theta", "partial_rotary_factor",
                          "n_routed_experts", "sliding_window", "swa_head_dim"}) {
    config.erase(key);
  }
  const auto transformers_config = parse_config(config);
  ASSERT_TRUE(transformers_config.has_value()) << transformers_config.error().message;
  for (uint32_t i = 0; i < 48; ++i) {
    const LayerConfig& a = published_config->layers[i];
    const LayerConfig& b = transformers_config->layers[i];
    EXPECT_EQ(a.is_sliding, b.is_sliding) << i;
    EXPECT_EQ(a.is_moe, b.is_moe) << i;
    EXPECT_EQ(a.rope, b.rope) << i;
    EXPECT_EQ(a.rotary_dim, b.rotary_dim) << i;
    EXPECT_EQ(a.head_dim, b.head_dim) << i;
    EXPECT_EQ(a.sliding_window, b.sliding_window) << i;
  }
  EXPECT_EQ(transformers_config->num_experts, 256U);
}

TEST(ModelConfig, RejectsOtherModels) {
  const auto config = ModelConfig::load(configs_path("qwen3.8-27b-dflash2"));
  ASSERT_FALSE(config.has_value());
  EXPECT_EQ(config.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(config.error().message.find("a drafter goes to --drafter"), std::string::npos);
}

TEST(ModelConfig, NamesUnsupportedKeys) {
  const std::vector<std::pair<std::string, json>> cases = {
      {"attention_bias", true},
      {"hidden_act", "gelu"},
      {"scoring_func", "softmax"},
      {"topk_method", "greedy"},
      {"n_group", 2},
      {"topk_group", 2},
      {"n_shared_experts", 1},
      {"attention_projection_layout", "interleaved"},
      {"model_type", "qwen2"},
  };
  for (const auto& [key, value] : cases) {
    expect_config_error(parse_with(key, value), ErrorCode::kUnsupported, "key '" + key + "'");
  }
  expect_config_error(parse_with("model_type", "qwen2"), ErrorCode::kUnsupported,
                      "\"llama\", \"qwen3\", \"qwen3_moe\", \"gpt_oss\"");
  expect_config_error(parse_with("rope_scaling", {{"rope_type", "yarn"}}), ErrorCode::kUnsupported,
                      "key 'rope_scaling.rope_type'");
  expect_config_error(parse_with("rope_scaling", {{"type", "linear"}}), ErrorCode::kUnsupported,
                      "key 'rope_scaling.type'");
  expect_config_error(
      parse_with("rope_parameters", {{"sliding_attention", {{"rope_type", "llama3"}}}}),
      ErrorCode::kUnsupported, "key 'rope_parameters.sliding_attention.rope_type'");
  // 16 chunks of 8 kv heads.
  expect_config_error(parse_with("num_key_value_heads", 16), ErrorCode::kUnsupported,
                      "key 'attention_projection_layout'");
}

TEST(ModelConfig, NamesUnsupportedQuantization) {
  const std::vector<std::pair<std::string, json>> cases = {
      {"quant_method", "awq"},  {"fmt", "e5m2"},          {"weight_block_size", {64, 128}},
      {"store_dtype", "nvfp4"}, {"mxfp4_block_size", 16},
  };
  for (const auto& [key, value] : cases) {
    json config = published("mimo-v2.5-pro");
    config["quantization_config"][key] = value;
    expect_config_error(parse_config(config), ErrorCode::kUnsupported,
                        "'quantization_config." + key + "'");
  }
  expect_config_error(parse_with("quantization_config", {{"fmt", "e4m3"}}), ErrorCode::kInvalidData,
                      "'quantization_config.quant_method' is missing");
  expect_config_error(parse_with("quantization_config", {{"quant_method", "fp8"}}),
                      ErrorCode::kInvalidData,
                      "'quantization_config.weight_block_size' is missing");
  expect_config_error(parse_with("moe_intermediate_size", 2040), ErrorCode::kUnsupported,
                      "moe_intermediate_size");
}

TEST(ModelConfig, NamesValuesOutOfRange) {
  const std::vector<std::pair<std::string, json>> cases = {
      {"hidden_size", 0},
      {"hidden_size", 1ULL << 40},
      {"hidden_size", -6144},
      {"hidden_size", 6144.0},
      {"hidden_size", "6144"},
      {"hidden_size", 18446744073709551615ULL},
      {"intermediate_size", 0},
      {"num_hidden_layers", 0},
      {"num_hidden_layers", 1000000},
      {"num_attention_heads", 0},
      {"num_key_value_heads", 0},
      {"num_key_value_heads", 7},
      {"swa_num_key_value_heads", 7},
      {"head_dim", 0},
      {"v_head_dim", 100000},
      {"partial_rotary_factor", 0.0},
      {"partial_rotary_factor", 0.001},
      {"partial_rotary_factor", 0.339},  // 65 dimensions
      {"partial_rotary_factor", 1.5},
      {"rope_theta", 0},
      {"rope_theta", "big"},
      {"swa_rope_theta", -1},
      {"sliding_window", 0},
      {"sliding_window_size", 64},
      {"n_routed_experts", 0},
      {"n_routed_experts", 1ULL << 33},
      {"num_experts_per_tok", 0},
      {"num_experts_per_tok", 385},
      {"moe_intermediate_size", 0},
      {"layernorm_epsilon", 0},
      {"layernorm_epsilon", 1},
      {"attention_value_scale", -0.5},
      {"routed_scaling_factor", 0},
      {"vocab_size", 0},
      {"vocab_size", 1ULL << 31},
      {"max_position_embeddings", 0},
      {"eos_token_id", 152576},
      {"eos_token_id", {1, -2}},
      {"eos_token_id", "</s>"},
      {"hybrid_layer_pattern", {0, 1}},
      {"hybrid_layer_pattern", 1},
      {"hybrid_layer_pattern", {0, 2}},
      {"moe_layer_freq", {0, 1}},
      {"layer_types", {"full_attention", "linear_attention"}},
      {"layer_types", {"full_attention"}},
      {"attention_bias", 0},
      {"hidden_act", 1},
      {"rope_scaling", "none"},
      {"tie_word_embeddings", "no"},
      {"quantization_config", "fp8"},
      {"num_nextn_predict_layers", 1.5},
  };
  for (const auto& [key, value] : cases) {
    expect_config_error(parse_with(key, value), ErrorCode::kInvalidData, "key '" + key + "'");
  }
}

TEST(ModelConfig, RejectsContradictions) {
  expect_config_error(parse_with("rms_norm_eps", 1e-6), ErrorCode::kInvalidData,
                      "'layernorm_epsilon' is 1e-05; expected 1e-06, as key 'rms_norm_eps'");
  expect_config_error(parse_with("rope_parameters", {{"full_attention", {{"rope_theta", 123}}}}),
                      ErrorCode::kInvalidData,
                      "'rope_theta' is 10000000; expected 123, as rope_parameters.full_attention");
  expect_config_error(parse_with("layer_types", std::vector<std::string>(70, "full_attention")),
                      ErrorCode::kInvalidData, "'layer_types'");
  expect_config_error(parse_with("sliding_window_size", 64), ErrorCode::kInvalidData,
                      "'sliding_window_size' is 64; expected 128");
}

TEST(ModelConfig, NamesMissingKeys) {
  for (const char* key :
       {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim",
        "hybrid_layer_pattern", "moe_layer_freq", "n_routed_experts", "num_experts_per_tok",
        "moe_intermediate_size", "rope_theta", "swa_rope_theta", "partial_rotary_factor",
        "vocab_size", "max_position_embeddings"}) {
    expect_config_error(parse_with(key, nullptr), ErrorCode::kInvalidData,
                        std::string("'") + key + "' is missing");
  }
  json config = published("mimo-v2.5-pro");
  config.erase("layernorm_epsilon");
  expect_config_error(parse_config(config), ErrorCode::kInvalidData, "'rms_norm_eps' is missing");
  config = published("mimo-v2.5-pro");
  config.erase("sliding_window");
  config.erase("sliding_window_size");
  expect_config_error(parse_config(config), ErrorCode::kInvalidData, "'sliding_window' is missing");
}

TEST(ModelConfig, RejectsMalformedJson) {
  expect_config_error(ModelConfig::parse("c.json", ""), ErrorCode::kInvalidData, "not valid JSON");
  expect_config_error(ModelConfig::parse("c.json", "{\"model_type\": "), ErrorCode::kInvalidData,
                      "not valid JSON");
  expect_config_error(ModelConfig::parse("c.json", "[1, 2]"), ErrorCode::kInvalidData,
                      "[1,2]; expected an object");
  expect_config_error(ModelConfig::parse("c.json", "{\"a\": 1, \"a\": 2}"), ErrorCode::kInvalidData,
                      "key 'a' occurs twice");
  expect_config_error(ModelConfig::parse("c.json", "{\"model_type\": \"mimo_v2\",}"),
                      ErrorCode::kInvalidData, "not valid JSON");
  const std::string deep(100000, '[');
  expect_config_error(ModelConfig::parse("c.json", deep), ErrorCode::kInvalidData,
                      "not valid JSON");
}

TEST(ModelConfig, DescribesAMissingOrHugeFile) {
  const test::TemporaryDirectory directory;
  const auto missing = ModelConfig::load(directory.path());
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find(directory.path() + "/config.json"), std::string::npos);
  std::ofstream(directory.path() + "/config.json") << std::string(17U << 20, ' ');
  const auto huge = ModelConfig::load(directory.path());
  ASSERT_FALSE(huge.has_value());
  EXPECT_EQ(huge.error().code, ErrorCode::kInvalidData);
}

TEST(GenerationConfig, ReadsSamplingDefaults) {
  const auto config = GenerationConfig::load(std::string(US_SOURCE_DIR) + "/models/tiny-mimo");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_TRUE(config->do_sample);
  EXPECT_EQ(config->temperature, 0.6F);
  EXPECT_EQ(config->top_p, 0.95F);
  EXPECT_EQ(config->top_k, 0U);
  EXPECT_EQ(config->eos_token_ids, (std::vector<uint32_t>{2, 0}));
  const auto all = GenerationConfig::parse(
      "g.json", R"({"top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1, "eos_token_id": 7})");
  ASSERT_TRUE(all.has_value());
  EXPECT_FALSE(all->do_sample);
  EXPECT_EQ(all->top_k, 20U);
  EXPECT_EQ(all->min_p, 0.1F);
  EXPECT_EQ(all->repetition_penalty, 1.1F);
  EXPECT_EQ(all->eos_token_ids, std::vector<uint32_t>{7});
}

TEST(GenerationConfig, IsOptional) {
  const test::TemporaryDirectory directory;
  const auto config = GenerationConfig::load(directory.path());
  ASSERT_TRUE(config.has_value());
  EXPECT_EQ(config->temperature, 1.0F);
  EXPECT_TRUE(config->eos_token_ids.empty());
}

TEST(GenerationConfig, NamesBadValues) {
  for (const char* text :
       {R"({"temperature": -1})", R"({"temperature": "hot"})", R"({"top_p": 0})",
        R"({"top_p": 1.5})", R"({"top_k": -1})", R"({"min_p": 2})", R"({"repetition_penalty": 0})",
        R"({"eos_token_id": [1, 2.5]})", R"({"do_sample": 1})"}) {
    const auto config = GenerationConfig::parse("g.json", text);
    ASSERT_FALSE(config.has_value()) << text;
    const std::string key = std::string(text).substr(2, std::string(text).find('"', 2) - 2);
    EXPECT_NE(config.error().message.find("'" + key + "'"), std::string::npos)
        << config.error().message;
    EXPECT_EQ(config.error().message.find("g.json"), 0U);
  }
}

TEST(GenerationConfig, StopIdsAreTheUnion) {
  ModelConfig model;
  model.eos_token_ids = {5, 2};
  GenerationConfig generation;
  generation.eos_token_ids = {2, 0};
  EXPECT_EQ(stop_token_ids(model, generation), (std::vector<uint32_t>{0, 2, 5}));
}

}  // namespace
}  // namespace ultraspeed::model
