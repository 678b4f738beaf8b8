// What coding agents must be told to use this server: their configuration as text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace ultraspeed::apps {

enum class AgentClient { kOpencode, kCodex, kQwenCode, kClaude };
inline constexpr std::array kAllAgentClients = {AgentClient::kOpencode, AgentClient::kCodex,
                                                AgentClient::kQwenCode, AgentClient::kClaude};
std::string_view agent_client_name(AgentClient client);  // "qwen-code"

struct ServedEndpoint {
  std::string url;  // without "/v1"
  std::string model;
  uint64_t max_context = 0;  // tokens; 0: not known
  bool needs_key = false;    // which is in the variable ULTRASPEED_API_KEY, and never in the text
};

// The contents of a configuration file, or of a shell script (claude).
std::string client_config(AgentClient client, const ServedEndpoint& endpoint);

// Where it goes: "~/.codex/config.toml".
std::string_view client_config_place(AgentClient client);

}  // namespace ultraspeed::apps
