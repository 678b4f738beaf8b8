// The request fields that /v1/completions and /v1/chat/completions share: sampling, stops, limits
// and how to answer. OpenAI's fields and the usual extensions of open servers (top_k, min_p,
// repetition_penalty, ignore_eos, skip_special_tokens, priority; grammar_request.h), and this
// server's own (best_of_mode, deadline_ms, budget_ms). Unknown fields are ignored.
#pragma once

#include <chrono>
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
  std::string fast_model;           // of its fast mode, if it has two
  engine::GenerationParams params;  // of generation_config.json; stop_ids of the model
  uint32_t vocab_size = 0;          // of the tokenizer
  size_t max_token_bytes = 1;       // of the same
  ToolSyntax tool_syntax = ToolSyntax::kNone;
};

// How one candidate is better than another.
enum class Selection {
  kLogprob,   // the highest mean log-probability of its tokens
  kMajority,  // the content that most candidates have; then as kLogprob
  kJudge,     // what the model says when it is shown all of them; chats only
};

struct ChoiceOptions {
  uint32_t num_choices = 1;
  uint32_t num_candidates = 1;  // best_of
  Selection selection = Selection::kLogprob;
  std::string judge_prompt = {};  // kJudge: what it is asked
  bool has_output = true;         // false: the prompt alone is of interest (max_tokens 0)
};

// When a request is to be served: before others of a lower tier, or a higher number.
enum class ServiceTier { kFast, kStandard, kFlex };

struct GenerationRequest {
  engine::GenerationParams params;
  bool has_seed = false;
  bool has_logprobs = false;  // report each token's logprob; params has the number of alternatives
  bool has_prompt_logprobs = false;  // and, in vLLM's form, each prompt token's
  std::vector<std::string> stop;
  std::optional<GrammarSource> grammar;  // of the answer behind its think block
  bool stream = false;
  bool include_usage = false;
  bool has_continuous_usage = false;
  bool skip_special_tokens = true;
  ChoiceOptions choices;
  std::optional<std::chrono::milliseconds> deadline;  // from the request's arrival on
  std::optional<std::chrono::milliseconds> budget;    // from the engine's start on
  ServiceTier tier = ServiceTier::kStandard;
  std::string service_tier;  // to be named in the answer, or empty
  std::string speed;         // the same in Anthropic's words, where the request has them
  int32_t priority = 0;
};

inline constexpr size_t kMaxStopStrings = 16;
inline constexpr int64_t kMaxTopLogprobs = 20;
inline constexpr int64_t kMaxCandidates = 64;
inline constexpr size_t kMaxJudgePromptBytes = 8192;
inline constexpr size_t kMaxCacheSalt = 256;  // bytes

// Errors: 404.
ApiStatus check_model_name(std::string_view model, const RequestDefaults& defaults);

// Errors: 404 for another model, 400 for the rest. Does not read logprobs, which differ by route.
ApiResult<GenerationRequest> parse_generation_fields(const Fields& fields,
                                                     const RequestDefaults& defaults);

// 'prompt_logprobs' as vLLM has it: so many alternatives of each prompt token, not streamed.
ApiStatus read_prompt_logprobs(const Fields& fields, GenerationRequest* request);

}  // namespace ultraspeed::server
