// Answers about tokens, without the engine: POST /tokenize and /detokenize in vLLM's form, and
// /v1/messages/count_tokens in Anthropic's, /v1/responses/input_tokens. Thread-safe; run on the
// parsing threads.
#pragma once

#include <string>
#include <string_view>

#include "server/prepare.h"

namespace ultraspeed::server {

// {"prompt": ..., "add_special_tokens": true} or the messages, tools and template variables of a
// chat, with "add_generation_prompt"; "return_token_strs". "model" may be missing.
ApiResult<std::string> tokenize(const ServedModel& model, const RequestDefaults& defaults,
                                CallMemory& calls, std::string_view body);
// {"tokens": [...]}
ApiResult<std::string> detokenize(const ServedModel& model, const RequestDefaults& defaults,
                                  std::string_view body);
// A body that /v1/messages would take.
ApiResult<std::string> count_tokens(const ServedModel& model, const RequestDefaults& defaults,
                                    CallMemory& calls, std::string_view body);
// A body that /v1/responses would take. "model" may be missing.
ApiResult<std::string> count_input_tokens(const ServedModel& model, const RequestDefaults& defaults,
                                          CallMemory& calls, ResponseStore& store,
                                          std::string_view body);

}  // namespace ultraspeed::server
