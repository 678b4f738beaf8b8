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
  US_ASSIGN(const Json json, parse_json_object(body));
  const Fields fields(json);
  CompletionRequest request;
  US_ASSIGN(request.generation, parse_generation_fields(fields, defaults));
  if (request.generation.choices.selection == Selection::kJudge) {
    return unsupported_field("best_of_mode", "'best_of_mode' 'judge' is for chats alone.");
  }
  US_TRY(read_prompts(fields, defaults.vocab_size, &request));
  US_TRY(fields.read("echo", &request.echo));
  US_TRY(fields.read("add_special_tokens", &request.add_special_tokens));

  int64_t logprobs = 0;
  US_TRY(fields.read_integer("logprobs", 0, kMaxTopLogprobs, &logprobs));
  request.generation.has_logprobs = fields.find("logprobs") != nullptr;
  request.generation.params.sampling.num_logprobs = static_cast<uint32_t>(logprobs);
  if (request.generation.has_logprobs && request.echo) {
    return unsupported_field("logprobs",
                             "'logprobs' with 'echo' is not supported: the prompt's "
                             "log-probabilities are not computed.");
  }
  std::string suffix;
  US_TRY(fields.read("suffix", &suffix));
  if (!suffix.empty()) return unsupported_field("suffix", "'suffix' is not supported.");
  return request;
}

}  // namespace ultraspeed::server
