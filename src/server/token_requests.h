// Answers about tokens, without the engine: POST /tokenize and /detokenize in vLLM's form, and
// /v1/messages/count_tokens in Anthropic's. Thread-safe; run on the parsing threads.
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

}  // namespace ultraspeed::server
