// The body of POST /v1/messages (Anthropic API reference, "Create a Message"), read as the chat
// request that it amounts to: system, messages with blocks of text, tool_use, tool_result and
// thinking, tools, tool_choice, stop_sequences and thinking are mapped; what both APIs have
// (max_tokens, temperature, top_p, top_k, stream) and this server's extensions are read alike.
#pragma once

#include <string_view>

#include "server/chat_request.h"

namespace ultraspeed::server {

ApiResult<ChatRequest> parse_messages_request(std::string_view body,
                                              const RequestDefaults& defaults);
// POST /v1/messages/count_tokens: the same without an answer, so max_tokens may be missing.
ApiResult<ChatRequest> parse_count_tokens_request(std::string_view body,
                                                  const RequestDefaults& defaults);

}  // namespace ultraspeed::server
