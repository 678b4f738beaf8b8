#include "server/completion_request.h"

#include <fmt/format.h>

namespace ultraspeed::server {
namespace {

ApiResult<CompletionRequest::Prompt> read_prompt(const Json& prompt, const std::string& path,
                                                 uint32_t vocab_size) {
  if (prompt.is_string()) return prompt.get<std::string>();
  if (prompt.is_array()) return read_ids(prompt, path, vocab_size);
  return invalid_field(path,
                       fmt::format("'{}' must be a string, an array of token ids, or an array "
                                   "of such prompts.",
                                   path));
}

ApiStatus read_prompts(const Fields& fields, uint32_t vocab_size, CompletionRequest* request) {
  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) return invalid_field("prompt", "'prompt' is missing.");
  const bool is_list = prompt->is_array() && !prompt->empty() && !prompt->front().is_number();
  if (!is_list) {
    US_ASSIGN(CompletionRequest::Prompt one, read_prompt(*prompt, "prompt", vocab_size));
    request->prompts.push_back(std::move(one));
    return {};
  }
  if (prompt->size() > kMaxPrompts) {
    return invalid_field("prompt", fmt::format("'prompt' has {} prompts; at most {} are allowed.",
                                               prompt->size(), kMaxPrompts));
  }
  for (size_t i = 0; i < prompt->size(); ++i) {
    US_ASSIGN(CompletionRequest::Prompt one,
              read_prompt((*prompt)[i], element_path("prompt", i), vocab_size));
    request->prompts.push_back(std::move(one));
  }
  return {};
}

// With echo the prompt's tokens have log-probabilities, too: so harnesses for evaluations score
// texts.
ApiStatus read_logprobs(const Fields& fields, CompletionRequest* request) {
  GenerationRequest& generation = request->generation;
  int64_t logprobs = 0;
  US_TRY(fields.read_integer("logprobs", 0, kMaxTopLogprobs, &logprobs));
  generation.has_logprobs = fields.find("logprobs") != nullptr;
  generation.params.sampling.num_logprobs = static_cast<uint32_t>(logprobs);
  if (!generation.has_logprobs || !request->echo) return {};
  if (generation.stream) {
    return unsupported_field("stream", "'stream' is not supported with 'echo' and 'logprobs'.");
  }
  const auto num_echoed = static_cast<uint32_t>(logprobs);
  if (generation.params.num_prompt_logprobs.value_or(num_echoed) != num_echoed) {
    return invalid_field("prompt_logprobs",
                         "'prompt_logprobs' must be equal to 'logprobs' with 'echo'.");
  }
  generation.params.num_prompt_logprobs = num_echoed;
  return {};
}

}  // namespace

ApiResult<std::vector<int32_t>> read_ids(const Json& array, std::string_view name,
                                         uint32_t vocab_size) {
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    const bool is_id = array[i].is_number_unsigned() && array[i].get<uint64_t>() < vocab_size;
    if (!is_id) {
      return invalid_field(std::string(name), fmt::format("'{}' is not a token id from 0 to {}.",
                                                          element_path(name, i), vocab_size - 1));
    }
    ids.push_back(array[i].get<int32_t>());
  }
  return ids;
}

ApiResult<CompletionRequest> parse_completion_request(std::string_view body,
                                                      const RequestDefaults& defaults) {
  US_ASSIGN(Json json, parse_json_object(body));
  CompletionRequest request;
  US_TRY(Fields(json).read("echo", &request.echo));
  const auto max_tokens = json.find("max_tokens");
  const bool has_output = !request.echo || max_tokens == json.end() || *max_tokens != 0;
  if (!has_output) *max_tokens = 1;  // which the step of the prompt's end gives
  const Fields fields(json);
  US_ASSIGN(request.generation, parse_generation_fields(fields, defaults));
  request.generation.choices.has_output = has_output;
  if (request.generation.choices.selection == Selection::kJudge) {
    return unsupported_field("best_of_mode", "'best_of_mode' 'judge' is for chats alone.");
  }
  US_TRY(read_prompts(fields, defaults.vocab_size, &request));
  const size_t num_candidates = request.generation.choices.num_candidates;
  if (request.prompts.size() * num_candidates > kMaxPromptCandidates) {
    return invalid_field("prompt",
                         fmt::format("'prompt' has {} prompts of {} candidates each; at "
                                     "most {} candidates are allowed in all.",
                                     request.prompts.size(), num_candidates, kMaxPromptCandidates));
  }
  US_TRY(fields.read("add_special_tokens", &request.add_special_tokens));
  US_TRY(read_prompt_logprobs(fields, &request.generation));
  US_TRY(read_logprobs(fields, &request));
  std::string suffix;
  US_TRY(fields.read("suffix", &suffix));
  if (!suffix.empty()) return unsupported_field("suffix", "'suffix' is not supported.");
  return request;
}

}  // namespace ultraspeed::server
