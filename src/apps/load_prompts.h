// What `bench serve` asks a server.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ultraspeed::apps {

enum class Endpoint { kChat, kCompletions };
inline constexpr std::array<Endpoint, 2> kAllEndpoints = {Endpoint::kChat, Endpoint::kCompletions};

constexpr std::string_view endpoint_name(Endpoint endpoint) {
  return endpoint == Endpoint::kChat ? "chat" : "completions";
}

// The fields of each prompt's request that say what it asks: messages, tools, prompt, stop; of a
// file (prompt_source.h), or the samples. A text is a user's message to chat.
// Errors: those of read_prompt_sources(); kInvalidArgument for token ids to chat, or messages to
// completions.
Result<std::vector<nlohmann::ordered_json>> load_prompts(const std::optional<std::string>& file,
                                                         Endpoint endpoint);

}  // namespace ultraspeed::apps
