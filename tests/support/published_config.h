// The published config.json files under configs/, for tests that read them, change them and look
// for what is said then.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "model/config.h"

namespace ultraspeed::test {

inline std::string configs_path(const std::string& name) {
  return US_SOURCE_DIR "/configs/" + name;
}

inline nlohmann::json published(const std::string& name) {
  std::ifstream file(configs_path(name) + "/config.json");
  return nlohmann::json::parse(file);
}

inline model::ModelConfig load_published(const std::string& name) {
  auto config = model::ModelConfig::load(configs_path(name));
  EXPECT_TRUE(config.has_value()) << config.error().message;
  return config.value_or(model::ModelConfig{});
}

inline Result<model::ModelConfig> parse_config(const nlohmann::json& value) {
  return model::ModelConfig::parse("c.json", value.dump());
}

// Of parse_config(): an error of this code that says `part`.
inline void expect_config_error(const Result<model::ModelConfig>& result, ErrorCode code,
                                const std::string& part) {
  ASSERT_FALSE(result.has_value()) << "expected: " << part;
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  EXPECT_EQ(result.error().message.find("c.json"), 0U) << result.error().message;
}

}  // namespace ultraspeed::test
