// The body of POST /v1/chat/completions (OpenAI API reference, "Create chat completion"). Supported
// beside the shared fields: messages, tools, tool_choice "none" and "auto",
// parallel_tool_calls, logprobs and top_logprobs, chat_template_kwargs, thinking.
#pragma once

#include <string_view>

#include "server/generation_request.h"
#include "text/chat_template.h"

namespace ultraspeed::server {

struct ChatRequest {
  GenerationRequest generation;
  // What the chat template gets. Of the messages only the roles are checked here; the template's
  // renderer checks the rest.
  text::ChatRequest prompt;
  bool has_parallel_calls = true;  // false: the answer ends after its first tool call
};

ApiResult<ChatRequest> read_chat_request(const Json& json, const RequestDefaults& defaults);
ApiResult<ChatRequest> parse_chat_request(std::string_view body, const RequestDefaults& defaults);

}  // namespace ultraspeed::server
