// The body of POST /v1/responses (OpenAI API reference, "Create a model response"), read as the
// chat request that it amounts to. Supported: input (a string or items), instructions,
// previous_response_id, tools, tool_choice, parallel_tool_calls, max_output_tokens, reasoning,
// text, include, top_logprobs, store, stream, and of chat requests the sampling and this server's
// extensions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/chat_request.h"
#include "server/response_store.h"
#include "server/responses_tools.h"

namespace ultraspeed::server {

// What the answer needs of the request.
struct ResponsesSettings {
  std::string echo;  // members of the response that repeat the request: "instructions":...,...
  ResponsesTools tools;
  bool seals_reasoning = false;  // encrypted_content in reasoning items
  bool is_stored = true;         // with what follows; else kept for the connection, if any
  ConnectionId connection = kNoConnection;  // a WebSocket: events come as its messages
  bool is_warm_up = false;                  // "generate": false: the prompt is computed alone
  std::string previous_id = {};             // or empty
  std::vector<StoredItem> input;            // of this request
};

struct ResponsesRequest {
  ChatRequest chat;
  ResponsesSettings settings;
};

ApiResult<ResponsesRequest> read_responses_request(const Json& json,
                                                   const RequestDefaults& defaults,
                                                   ResponseStore& store,
                                                   ConnectionId connection = kNoConnection);
ApiResult<ResponsesRequest> parse_responses_request(std::string_view body,
                                                    const RequestDefaults& defaults,
                                                    ResponseStore& store);

}  // namespace ultraspeed::server
