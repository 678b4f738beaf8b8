// The body of POST /v1/completions (OpenAI API reference, "Create completion"). Supported beside
// the shared fields: prompt (a string, token ids, or an array of either), echo, logprobs,
// prompt_logprobs, add_special_tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/generation_request.h"

namespace ultraspeed::server {

struct CompletionRequest {
  GenerationRequest generation;
  using Prompt = std::variant<std::string, std::vector<int32_t>>;
  std::vector<Prompt> prompts;  // at least one
  bool echo = false;
  bool add_special_tokens = true;  // what the tokenizer file's post-processor adds
};

inline constexpr size_t kMaxPrompts = 256;
inline constexpr size_t kMaxPromptCandidates = 512;  // of all prompts together

// Token ids of the field `name`, a JSON array.
ApiResult<std::vector<int32_t>> read_ids(const Json& array, std::string_view name,
                                         uint32_t vocab_size);

ApiResult<CompletionRequest> parse_completion_request(std::string_view body,
                                                      const RequestDefaults& defaults);

}  // namespace ultraspeed::server
