#include "server/completion_request.h"

#include <fmt/format.h>

namespace ultraspeed::server {
namespace {

ApiStatus read_prompt(const Fields& fields, uint32_t vocab_size, CompletionRequest* request) {
  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) return invalid_field("prompt", "'prompt' is missing.");
  const bool is_list = prompt->is_array() && !prompt->empty() && !prompt->front().is_number();
  if (is_list && prompt->size() > 1) {
    return unsupported_field("prompt", fmt::format("'prompt' has {} prompts; this server takes one "
                                                   "a request. Send several requests.",
                                                   prompt->size()));
  }
  if (is_list) prompt = &prompt->front();
  if (prompt->is_string()) {
    request->prompt = prompt->get<std::string>();
  } else if (prompt->is_array()) {
    US_ASSIGN(request->prompt, read_ids(*prompt, "prompt", vocab_size));
  } else {
    return invalid_field("prompt",
                         "'prompt' must be a string, an array of one string, or an array of token "
                         "ids.");
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
  US_TRY(read_prompt(fields, defaults.vocab_size, &request));
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
