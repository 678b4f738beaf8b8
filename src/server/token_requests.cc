#include "server/token_requests.h"

#include <fmt/format.h>

#include <iterator>
#include <vector>

#include "server/completion_request.h"
#include "server/json_text.h"
#include "server/messages_request.h"
#include "text/utf8.h"

namespace ultraspeed::server {
namespace {

// These routes know one model, so its name may be left out.
ApiResult<Json> parse_with_model(std::string_view body, const RequestDefaults& defaults) {
  US_ASSIGN(Json json, parse_json_object(body));
  const Fields fields(json);
  std::string model = defaults.model;
  US_TRY(fields.read("model", &model));
  US_TRY(check_model_name(model, defaults));
  json["model"] = model;
  return json;
}

ApiResult<std::vector<int32_t>> prompt_tokens(const ServedModel& model, const Fields& fields) {
  std::string prompt;
  US_TRY(fields.read("prompt", &prompt));
  if (fields.find("prompt") == nullptr) {
    return invalid_field("prompt", "'prompt' is missing; or send 'messages'.");
  }
  bool add_special_tokens = true;
  US_TRY(fields.read("add_special_tokens", &add_special_tokens));
  auto ids = model.tokenizer->encode(
      prompt,
      {.parse_special = true, .add_special_tokens = add_special_tokens, .plain_ranges = {}});
  if (!ids) return tl::unexpected(from_error(ids.error()));
  return *std::move(ids);
}

ApiResult<std::vector<int32_t>> chat_tokens(const ServedModel& model,
                                            const RequestDefaults& defaults, CallMemory& calls,
                                            Json* json) {
  US_ASSIGN(ChatRequest request, read_chat_request(json, defaults));
  US_TRY(Fields(*json).read("add_generation_prompt", &request.prompt.add_generation_prompt));
  US_ASSIGN(ChatPrompt prompt, make_chat_prompt(model, &request, calls));
  return std::move(prompt.ids);
}

// [f(element),...]
template <class Function>
void append_list(std::string& out, const std::vector<int32_t>& ids, Function append_element) {
  out += '[';
  for (const int32_t id : ids) {
    if (out.back() != '[') out += ',';
    append_element(id);
  }
  out += ']';
}

}  // namespace

ApiResult<std::string> tokenize(const ServedModel& model, const RequestDefaults& defaults,
                                CallMemory& calls, std::string_view body) {
  US_ASSIGN(Json json, parse_with_model(body, defaults));
  const Fields fields(json);
  bool has_strings = false;
  US_TRY(fields.read("return_token_strs", &has_strings));
  const bool is_chat = fields.find("messages") != nullptr;
  US_ASSIGN(const std::vector<int32_t> ids,
            is_chat ? chat_tokens(model, defaults, calls, &json) : prompt_tokens(model, fields));
  std::string out = fmt::format(R"({{"count":{},"max_model_len":{},"tokens":)", ids.size(),
                                model.engine->max_context());
  append_list(out, ids, [&out](int32_t id) { fmt::format_to(std::back_inserter(out), "{}", id); });
  out += R"(,"token_strs":)";
  if (has_strings) {
    append_list(out, ids, [&](int32_t id) {
      append_json_string(out, text::replace_malformed(model.tokenizer->token_bytes(id)).text);
    });
  } else {
    out += "null";
  }
  out += '}';
  return out;
}

ApiResult<std::string> detokenize(const ServedModel& model, const RequestDefaults& defaults,
                                  std::string_view body) {
  US_ASSIGN(const Json json, parse_with_model(body, defaults));
  const Json* tokens = nullptr;
  US_TRY(Fields(json).read_array("tokens", &tokens));
  if (tokens == nullptr) return invalid_field("tokens", "'tokens' is missing.");
  US_ASSIGN(const std::vector<int32_t> ids, read_ids(*tokens, "tokens", defaults.vocab_size));
  std::string out = R"({"prompt":)";
  append_json_string(out, model.tokenizer->decode(ids));
  out += '}';
  return out;
}

ApiResult<std::string> count_tokens(const ServedModel& model, const RequestDefaults& defaults,
                                    CallMemory& calls, std::string_view body) {
  US_ASSIGN(ChatRequest request, parse_count_tokens_request(body, defaults));
  US_ASSIGN(const ChatPrompt prompt, make_chat_prompt(model, &request, calls));
  return fmt::format(R"({{"input_tokens":{},"context_management":null}})", prompt.ids.size());
}

ApiResult<std::string> count_input_tokens(const ServedModel& model, const RequestDefaults& defaults,
                                          CallMemory& calls, ResponseStore& store,
                                          std::string_view body) {
  US_ASSIGN(Json json, parse_with_model(body, defaults));
  json["store"] = false;
  US_ASSIGN(ResponsesRequest request, read_responses_request(json, defaults, store));
  US_ASSIGN(const ChatPrompt prompt, make_chat_prompt(model, &request.chat, calls));
  return fmt::format(R"({{"object":"response.input_tokens","input_tokens":{}}})",
                     prompt.ids.size());
}

}  // namespace ultraspeed::server
