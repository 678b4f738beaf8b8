#include "apps/client_config.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/shell.h"
#include "base/check.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

constexpr const char* kProvider = "ultraspeed";
constexpr const char* kKeyVariable = "ULTRASPEED_API_KEY";
constexpr const char* kNoKey = "none";     // where a client insists on one
constexpr uint64_t kContextPerOutput = 4;  // an answer may take this part of the context

// Of opencode 1 (opencode.json).
std::string opencode_config(const ServedEndpoint& endpoint) {
  ordered_json options = {{"baseURL", endpoint.url + "/v1"}};
  if (endpoint.needs_key) options["apiKey"] = fmt::format("{{env:{}}}", kKeyVariable);
  ordered_json model = {{"name", endpoint.model}, {"tool_call", true}, {"reasoning", true}};
  if (endpoint.max_context > 0) {
    model["limit"] = {{"context", endpoint.max_context},
                      {"output", endpoint.max_context / kContextPerOutput}};
  }
  ordered_json models = ordered_json::object();
  models[endpoint.model] = std::move(model);
  const std::string name = fmt::format("{}/{}", kProvider, endpoint.model);
  const ordered_json json = {{"$schema", "https://opencode.ai/config.json"},
                             {"model", name},
                             {"small_model", name},  // of titles and summaries
                             {"provider",
                              {{kProvider,
                                {{"npm", "@ai-sdk/openai-compatible"},
                                 {"name", "UltraSpeed"},
                                 {"options", std::move(options)},
                                 {"models", std::move(models)}}}}}};
  return json.dump(2) + "\n";
}

// A JSON string is one of TOML, too.
std::string toml_string(const std::string& text) {
  return ordered_json(text).dump();
}

std::string codex_config(const ServedEndpoint& endpoint) {
  std::string toml =
      fmt::format("model = {}\nmodel_provider = \"{}\"\n", toml_string(endpoint.model), kProvider);
  if (endpoint.max_context > 0) {
    toml += fmt::format("model_context_window = {}\n", endpoint.max_context);
  }
  toml += fmt::format(
      "\n[model_providers.{}]\nname = \"UltraSpeed\"\nbase_url = {}\nwire_api = \"responses\"\n"
      "supports_websockets = true\n",
      kProvider, toml_string(endpoint.url + "/v1"));
  if (endpoint.needs_key) toml += fmt::format("env_key = \"{}\"\n", kKeyVariable);
  return toml;
}

std::string qwen_code_config(const ServedEndpoint& endpoint) {
  ordered_json model = {{"id", endpoint.model},
                        {"name", endpoint.model},
                        {"baseUrl", endpoint.url + "/v1"},
                        {"envKey", kKeyVariable}};
  if (endpoint.max_context > 0) {
    model["generationConfig"] = {{"contextWindowSize", endpoint.max_context}};
  }
  ordered_json json = {{"modelProviders", {{"openai", ordered_json::array({std::move(model)})}}},
                       {"security", {{"auth", {{"selectedType", "openai"}}}}},
                       {"model", {{"name", endpoint.model}}}};
  if (!endpoint.needs_key) json["env"] = {{kKeyVariable, kNoKey}};
  return json.dump(2) + "\n";
}

// An empty ANTHROPIC_API_KEY, since any other goes before the token.
std::string claude_config(const ServedEndpoint& endpoint) {
  const std::string token =
      endpoint.needs_key ? fmt::format("\"${}\"", kKeyVariable) : std::string(kNoKey);
  std::string script = fmt::format(
      "export ANTHROPIC_BASE_URL={}\nexport ANTHROPIC_AUTH_TOKEN={}\nexport ANTHROPIC_API_KEY=\n",
      shell_quoted(endpoint.url), token);
  for (const char* variable : {"ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL",
                               "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"}) {
    script += fmt::format("export {}={}\n", variable, shell_quoted(endpoint.model));
  }
  if (endpoint.max_context > 0) {  // of a model that it does not know it assumes a million
    script += fmt::format("export CLAUDE_CODE_MAX_CONTEXT_TOKENS={}\n", endpoint.max_context);
  }
  return script + "export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1\n";
}

}  // namespace

std::string_view agent_client_name(AgentClient client) {
  switch (client) {
    case AgentClient::kOpencode:
      return "opencode";
    case AgentClient::kCodex:
      return "codex";
    case AgentClient::kQwenCode:
      return "qwen-code";
    case AgentClient::kClaude:
      return "claude";
  }
  US_CHECK(false, "unknown client");
}

std::string client_config(AgentClient client, const ServedEndpoint& endpoint) {
  switch (client) {
    case AgentClient::kOpencode:
      return opencode_config(endpoint);
    case AgentClient::kCodex:
      return codex_config(endpoint);
    case AgentClient::kQwenCode:
      return qwen_code_config(endpoint);
    case AgentClient::kClaude:
      return claude_config(endpoint);
  }
  US_CHECK(false, "unknown client");
}

std::string_view client_config_place(AgentClient client) {
  switch (client) {
    case AgentClient::kOpencode:
      return "opencode.json of the project, or ~/.config/opencode/opencode.json";
    case AgentClient::kCodex:
      return "~/.codex/config.toml";
    case AgentClient::kQwenCode:
      return "~/.qwen/settings.json";
    case AgentClient::kClaude:
      return "the shell that starts claude";
  }
  US_CHECK(false, "unknown client");
}

}  // namespace ultraspeed::apps
