#include "apps/client_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ultraspeed::apps {
namespace {

using nlohmann::json;

const ServedEndpoint kOpen{"http://127.0.0.1:8000", "tiny \"1\"", 65536, false};
const ServedEndpoint kClosed{"https://model.example", "MiMo's", 0, true};

TEST(ClientConfig, Opencode) {
  const json open = json::parse(client_config(AgentClient::kOpencode, kOpen));
  EXPECT_EQ(open["model"], "ultraspeed/tiny \"1\"");
  const json& provider = open["provider"]["ultraspeed"];
  EXPECT_EQ(provider["npm"], "@ai-sdk/openai-compatible");
  EXPECT_EQ(provider["options"], json({{"baseURL", "http://127.0.0.1:8000/v1"}}));
  EXPECT_TRUE(provider["models"]["tiny \"1\""]["tool_call"]);
  EXPECT_EQ(provider["models"]["tiny \"1\""]["limit"],
            json({{"context", 65536}, {"output", 16384}}));
  const json closed = json::parse(client_config(AgentClient::kOpencode, kClosed));
  EXPECT_EQ(closed["provider"]["ultraspeed"]["options"]["apiKey"], "{env:ULTRASPEED_API_KEY}");
  EXPECT_FALSE(closed["provider"]["ultraspeed"]["models"]["MiMo's"].contains("limit"));
}

TEST(ClientConfig, Codex) {
  EXPECT_EQ(client_config(AgentClient::kCodex, kOpen),
            "model = \"tiny \\\"1\\\"\"\nmodel_provider = \"ultraspeed\"\n"
            "model_context_window = 65536\n\n[model_providers.ultraspeed]\nname = \"UltraSpeed\"\n"
            "base_url = \"http://127.0.0.1:8000/v1\"\nwire_api = \"responses\"\n"
            "supports_websockets = true\n");
  EXPECT_TRUE(client_config(AgentClient::kCodex, kClosed)
                  .ends_with("supports_websockets = true\nenv_key = \"ULTRASPEED_API_KEY\"\n"));
}

TEST(ClientConfig, QwenCode) {
  const json open = json::parse(client_config(AgentClient::kQwenCode, kOpen));
  const json& model = open["modelProviders"]["openai"][0];
  EXPECT_EQ(model["baseUrl"], "http://127.0.0.1:8000/v1");
  EXPECT_EQ(model["envKey"], "ULTRASPEED_API_KEY");
  EXPECT_EQ(model["generationConfig"]["contextWindowSize"], 65536);
  EXPECT_EQ(open["env"]["ULTRASPEED_API_KEY"], "none");
  EXPECT_FALSE(json::parse(client_config(AgentClient::kQwenCode, kClosed)).contains("env"));
}

TEST(ClientConfig, Claude) {
  const std::string open = client_config(AgentClient::kClaude, kOpen);
  EXPECT_TRUE(
      open.starts_with("export ANTHROPIC_BASE_URL='http://127.0.0.1:8000'\n"
                       "export ANTHROPIC_AUTH_TOKEN=none\nexport ANTHROPIC_API_KEY=\n"))
      << open;
  EXPECT_NE(open.find("export CLAUDE_CODE_MAX_CONTEXT_TOKENS=65536\n"), std::string::npos);
  const std::string closed = client_config(AgentClient::kClaude, kClosed);
  EXPECT_NE(closed.find("ANTHROPIC_AUTH_TOKEN=\"$ULTRASPEED_API_KEY\"\n"), std::string::npos);
  EXPECT_NE(closed.find("ANTHROPIC_DEFAULT_HAIKU_MODEL='MiMo'\\''s'\n"), std::string::npos);
}

}  // namespace
}  // namespace ultraspeed::apps
