// The request fields that /v1/completions and /v1/chat/completions share: sampling, stops, limits
// and how to answer. OpenAI's fields and the usual extensions of open servers (top_k, min_p,
// repetition_penalty, ignore_eos, skip_special_tokens; grammar_request.h). Unknown fields are
// ignored.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/grammar_request.h"
#include "server/json_fields.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {

// What a request without the field gets, and what it is checked against.
struct RequestDefaults {
  std::string model;                // the served model's name
  engine::GenerationParams params;  // of generation_config.json; stop_ids of the model
  uint32_t vocab_size = 0;          // of the tokenizer
  ToolSyntax tool_syntax = ToolSyntax::kNone;
};

struct GenerationRequest {
  engine::GenerationParams params;
  bool has_seed = false;
  bool has_logprobs = false;  // report each token's logprob; params has the number of alternatives
  std::vector<std::string> stop;
  std::optional<GrammarSource> grammar;  // of the answer behind its think block
  bool stream = false;
  bool include_usage = false;
  bool skip_special_tokens = true;
};

inline constexpr size_t kMaxStopStrings = 16;
inline constexpr int64_t kMaxTopLogprobs = 20;

// Errors: 404 for another model, 400 for the rest. Does not read logprobs, which differ by route.
ApiResult<GenerationRequest> parse_generation_fields(const Fields& fields,
                                                     const RequestDefaults& defaults);

}  // namespace ultraspeed::server
