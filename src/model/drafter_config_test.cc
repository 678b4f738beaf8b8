// The drafter's config.json: published and z-lab forms, and its errors.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "model/config.h"
#include "support/reference_folder.h"

namespace ultraspeed::model {
namespace {

using nlohmann::json;

const std::string kProDrafter = std::string(US_SOURCE_DIR) + "/configs/mimo-v2.5-pro/dflash";

json published() {
  std::ifstream file(kProDrafter + "/config.json");
  return json::parse(file);
}

void expect_error(const json& value, ErrorCode code, const std::string& part) {
  const auto config = DrafterConfig::parse("d.json", value.dump());
  ASSERT_FALSE(config.has_value()) << part;
  EXPECT_EQ(config.error().code, code) << config.error().message;
  EXPECT_NE(config.error().message.find(part), std::string::npos) << config.error().message;
}

TEST(DrafterConfig, ReadsThePublishedDrafter) {
  const auto config = DrafterConfig::load(kProDrafter);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->hidden_size, 6144U);
  EXPECT_EQ(config->intermediate_size, 16384U);
  EXPECT_EQ(config->num_layers, 5U);
  EXPECT_EQ(config->num_q_heads, 128U);
  EXPECT_EQ(config->num_kv_heads, 8U);
  EXPECT_EQ(config->head_dim, 128U);
  EXPECT_EQ(config->v_head_dim, 128U);
  EXPECT_EQ(config->rotary_dim, 64U);
  EXPECT_EQ(config->vocab_size, 152064U);
  EXPECT_EQ(config->block_size, 8U);
  EXPECT_EQ(config->mask_token_id, 151669U);
  EXPECT_EQ(config->sliding_window, 1024U);
  EXPECT_EQ(config->num_target_layers, 70U);
  EXPECT_EQ(config->target_layer_ids, (std::vector<uint32_t>{0, 15, 31, 47, 69}));
  EXPECT_EQ(config->rope_theta, 1e4F);
  EXPECT_EQ(config->rms_norm_eps, 1e-5F);
  EXPECT_EQ(config->attention_value_scale, 0.612F);
  EXPECT_TRUE(config->has_sink);
  EXPECT_TRUE(config->has_window_before_anchor);
  ASSERT_EQ(config->layers.size(), 5U);
  for (const DrafterConfig::Layer& layer : config->layers) {
    EXPECT_EQ(layer.sliding_window, 1024U);
    EXPECT_FALSE(layer.is_causal);
  }
  // The published drafter file has 5,536,632,576 bytes of BF16.
  EXPECT_EQ(count_parameters(*config) * 2, 5'536'632'576U);
}

TEST(DrafterConfig, ReadsTheReferenceDrafter) {
  const auto directory = test::reference_folder("qwen3_dflash");
  ASSERT_TRUE(directory.has_value()) << directory.error().message;
  const auto config = DrafterConfig::load(*directory);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->num_layers, 3U);
  EXPECT_EQ(config->rotary_dim, 32U);
  EXPECT_EQ(config->sliding_window, 0U);
  EXPECT_EQ(config->mask_token_id, 3U);
  EXPECT_EQ(config->target_layer_ids, (std::vector<uint32_t>{1, 3, 5}));
  EXPECT_EQ(config->rope_theta, 1e6F);
  EXPECT_EQ(config->attention_value_scale, 1.0F);
  EXPECT_FALSE(config->has_sink);
  ASSERT_EQ(config->layers.size(), 3U);
  EXPECT_EQ(config->layers[2].sliding_window, 0U);
  EXPECT_FALSE(config->layers[2].is_causal);
}

TEST(DrafterConfig, AcceptsTrailingCommas) {
  const json config_json = published();
  const auto text_with = [&](const std::string& commas) {
    json marked = config_json;
    marked["note"] = "a \" quoted ,] and ,}";
    marked["dflash_config"]["target_layer_ids"].push_back("COMMA");
    marked["z"] = "COMMA";
    std::string text = marked.dump(1);
    for (const std::string mark : {",\n   \"COMMA\"", ",\n \"z\": \"COMMA\""}) {
      text.replace(text.find(mark), mark.size(), commas);
    }
    return text;
  };
  const std::string text = text_with(" ,\n ");
  const auto config = DrafterConfig::parse("d.json", text);
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->target_layer_ids.size(), 5U);
  EXPECT_FALSE(DrafterConfig::parse("d.json", text_with(",,")).has_value());
}

TEST(DrafterConfig, NamesUnsupportedKeys) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, json>>{{"architectures", {"DFlash2DraftModel"}},
                                                 {"attention_bias", true},
                                                 {"hidden_act", "relu"},
                                                 {"rope_scaling", {{"rope_type", "yarn"}}}}) {
    json config = published();
    config[key] = value;
    expect_error(config, ErrorCode::kUnsupported, key);
  }
}

TEST(DrafterConfig, NamesBadValues) {
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, json>>{{"architectures", nullptr},
                                                 {"hidden_size", 0},
                                                 {"num_hidden_layers", "5"},
                                                 {"num_key_value_heads", 3},
                                                 {"partial_rotary_factor", 0.01},
                                                 {"rope_theta", nullptr},
                                                 {"block_size", 7},
                                                 {"num_target_layers", nullptr},
                                                 {"dflash_config", nullptr},
                                                 {"dflash_config", 1}}) {
    json config = published();
    config[key] = value;
    expect_error(config, ErrorCode::kInvalidData, key);
  }
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, json>>{{"target_layer_ids", {0, 70}},
                                                 {"target_layer_ids", json::array()},
                                                 {"target_layer_ids", {5, 5}},
                                                 {"target_layer_ids", nullptr},
                                                 {"mask_token_id", nullptr},
                                                 {"swa_window_size", 0},
                                                 {"attention_sink_bias", "yes"}}) {
    json config = published();
    config["dflash_config"][key] = value;
    expect_error(config, ErrorCode::kInvalidData, "'dflash_config." + key + "'");
  }
  json config = published();
  config.erase("block_size");
  config["dflash_config"].erase("block_size");
  expect_error(config, ErrorCode::kInvalidData, "'block_size' is missing");
}

TEST(DrafterConfig, ReadsASelector) {
  json config = published();
  EXPECT_EQ(DrafterConfig::parse("d.json", config.dump())->selector.rank, 0u);
  json& selector = config["dflash_config"]["selector"];
  selector = {{"form", "product"}, {"rank", 48}, {"candidates", 12}};
  const auto read = DrafterConfig::parse("d.json", config.dump());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->selector.rank, 48u);
  EXPECT_EQ(read->selector.num_candidates, 12u);
  EXPECT_EQ(read->stack().selector_rank, 48u);
  EXPECT_EQ((count_parameters(*read) - 5'536'632'576U / 2), 3u * 48 * 6144);
  selector["form"] = "gate";
  expect_error(config, ErrorCode::kUnsupported,
               "d.json: key 'dflash_config.selector.form' is \"gate\", which is not supported; "
               "only \"product\" is");
  selector["form"] = nullptr;
  expect_error(config, ErrorCode::kInvalidData, "'dflash_config.selector.form' is missing");
  selector = {{"form", "product"}, {"rank", 129}, {"candidates", 12}};
  expect_error(config, ErrorCode::kInvalidData, "'dflash_config.selector.rank'");
  selector = {{"form", "product"}, {"rank", 1}, {"candidates", 1}};
  expect_error(config, ErrorCode::kInvalidData, "'dflash_config.selector.candidates'");
}

TEST(DrafterConfig, SwitchesTheWindowOff) {
  json config = published();
  config["dflash_config"]["use_swa"] = false;
  const auto result = DrafterConfig::parse("d.json", config.dump());
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->sliding_window, 0U);
}

// z-lab's form: four sliding layers and a full one.
json mixed() {
  json config = published();
  for (const char* key : {"use_swa", "swa_window_size", "attention_sink_bias"}) {
    config["dflash_config"].erase(key);
  }
  config["layer_types"] = json::array();
  for (int i = 0; i < 4; ++i) config["layer_types"].push_back("sliding_attention");
  config["layer_types"].push_back("full_attention");
  config["sliding_window"] = 2048;
  return config;
}

TEST(DrafterConfig, ReadsLayerTypes) {
  const auto config = DrafterConfig::parse("d.json", mixed().dump());
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_FALSE(config->has_window_before_anchor);
  EXPECT_EQ(config->sliding_window, 2048U);
  EXPECT_EQ(config->layers[3].sliding_window, 2048U);
  EXPECT_TRUE(config->layers[3].is_causal);
  EXPECT_EQ(config->layers[4].sliding_window, 0U);
  EXPECT_FALSE(config->layers[4].is_causal);
}

TEST(DrafterConfig, IsCausalAsTheOuterThenTheInnerKeySays) {
  json value = mixed();
  value["dflash_config"]["causal"] = false;
  EXPECT_FALSE(DrafterConfig::parse("d.json", value.dump())->layers[0].is_causal);
  value["is_causal"] = true;
  const auto config = DrafterConfig::parse("d.json", value.dump());
  ASSERT_TRUE(config.has_value());
  EXPECT_TRUE(config->layers[0].is_causal);
  EXPECT_TRUE(config->layers[4].is_causal);
}

TEST(DrafterConfig, NamesBadLayerTypes) {
  json value = mixed();
  value["layer_types"][1] = "linear_attention";
  expect_error(value, ErrorCode::kInvalidData, "'layer_types'");
  value["layer_types"] = {"full_attention"};
  expect_error(value, ErrorCode::kInvalidData, "each of the 5 layers");
  value = mixed();
  value.erase("sliding_window");
  expect_error(value, ErrorCode::kInvalidData, "'sliding_window' is missing");
}

}  // namespace
}  // namespace ultraspeed::model
