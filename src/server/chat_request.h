// The body of POST /v1/chat/completions (OpenAI API reference, "Create chat completion"). Supported
// beside the shared fields: messages, tools, tool_choice, parallel_tool_calls,
// continue_final_message, logprobs and top_logprobs, chat_template_kwargs, thinking,
// reasoning_effort.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "server/generation_request.h"
#include "text/chat_template.h"

namespace ultraspeed::server {

// How much the model is to reason: "none" rules it out, the rest is the model's own affair.
inline constexpr std::array<std::string_view, 7> kReasoningEfforts = {
    "none", "minimal", "low", "medium", "high", "xhigh", "max"};

// A tool's name: 1 to 128 letters, digits and '_', '-', '.', ':', '/', which every syntax of calls
// carries.
ApiStatus check_tool_name(std::string_view name, const std::string& path);

struct ToolChoice {
  Json tools = Json::array();  // that may be called
  bool must_call = false;      // one of them, whatever the model would say
  bool is_single = false;      // the answer ends after its first call
};

struct ChatRequest {
  GenerationRequest generation;
  // What the chat template gets. Of the messages only the roles are checked here; the template's
  // renderer checks the rest.
  text::ChatRequest prompt;
  ToolChoice tool_choice;
  bool continues_last = false;  // the answer goes on where the last message, an assistant's, ends
};

// Takes the messages out of the JSON, which may be long.
ApiResult<ChatRequest> read_chat_request(Json* json, const RequestDefaults& defaults);
ApiResult<ChatRequest> parse_chat_request(std::string_view body, const RequestDefaults& defaults);

}  // namespace ultraspeed::server
