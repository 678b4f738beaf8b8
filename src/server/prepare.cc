#include "server/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "server/completion_request.h"
#include "server/exchange.h"
#include "server/forced_answers.h"
#include "server/messages_request.h"

namespace ultraspeed::server {
namespace {

ApiResult<text::StopStrings> make_stop(const std::vector<std::string>& strings) {
  auto stop = text::StopStrings::create(strings);
  if (!stop) return invalid_field("stop", stop.error().message);
  return *std::move(stop);
}

ApiResult<std::vector<int32_t>> encode(const ServedModel& model, std::string_view text,
                                       const text::EncodeOptions& options) {
  auto ids = model.tokenizer->encode(text, options);
  if (!ids) return tl::unexpected(from_error(ids.error()));
  return *std::move(ids);
}

ApiStatus check_length(const ServedModel& model, size_t prompt_tokens, const char* param) {
  if (prompt_tokens == 0) {
    return invalid_field(param, fmt::format("'{}' is empty: it has no tokens.", param));
  }
  const uint32_t max_context = model.engine->max_context();
  if (prompt_tokens < max_context) return {};
  ApiError error = context_length_exceeded(prompt_tokens, max_context);
  error.param = param;
  return tl::unexpected(std::move(error));
}

// Of a text before it is tokenized, which takes a while for one of megabytes: it has a token for so
// many bytes at least.
ApiStatus check_size(const ServedModel& model, size_t max_token_bytes, size_t text_bytes,
                     const char* param) {
  const size_t min_tokens = text_bytes / max_token_bytes;
  const uint32_t max_context = model.engine->max_context();
  if (min_tokens < max_context) return {};
  ApiError error = context_length_exceeded(min_tokens, max_context, /*is_at_least=*/true);
  error.param = param;
  return tl::unexpected(std::move(error));
}

// The renderer's sentences begin with the place, such as "messages[2].content[0]: ", if there is
// one.
ApiError template_error(const Error& error) {
  ApiError api_error = from_error(error);
  const size_t end = error.message.find(": ");
  const bool has_place =
      error.message.starts_with("messages[") || error.message.starts_with("tools");
  api_error.param = has_place ? error.message.substr(0, end) : "messages";
  return api_error;
}

bool ends_with_marker(std::string_view prompt, std::string_view marker) {
  const size_t end = prompt.find_last_not_of(" \t\r\n");
  return end != std::string_view::npos && prompt.substr(0, end + 1).ends_with(marker);
}

// Templates end the block themselves where the model shall not think.
Thinking thinking_of(std::string_view prompt, std::optional<bool> enable_thinking) {
  if (ends_with_marker(prompt, "<think>")) return Thinking::kOpen;
  const bool may_think = enable_thinking.value_or(true) && !ends_with_marker(prompt, "</think>");
  return may_think ? Thinking::kMay : Thinking::kNone;
}

// Cuts off what the template writes behind the last message's text, which is `content`.
ApiStatus end_in_last_message(std::string_view content, text::RenderedPrompt* rendered) {
  const size_t end = rendered->input_ranges.empty() ? 0 : rendered->input_ranges.back().end;
  const std::string_view text = std::string_view(rendered->text).substr(0, end);
  if (!text.ends_with(content)) {
    return unsupported_field("messages",
                             "This model's chat template changes the text of the last "
                             "message, so that it cannot be continued.");
  }
  rendered->text.resize(end);
  return {};
}

// An answer that must call keeps to a grammar of calls; one that must keep to a grammar may call
// instead.
ApiStatus add_call_choice(const RequestDefaults& defaults, ChatRequest* request) {
  const ToolChoice& choice = request->tool_choice;
  std::optional<GrammarSource>& grammar = request->generation.grammar;
  const bool has_syntax = defaults.tool_syntax != ToolSyntax::kNone;
  // A message that is continued is the final one, or the model's first.
  const bool has_channels =
      defaults.tool_syntax == ToolSyntax::kHarmony && !request->continues_last;
  if (choice.must_call && !has_syntax) {
    return unsupported_field("tool_choice", "This model's chat template shows no way to call.");
  }
  if (choice.must_call) {
    grammar = GrammarSource{GrammarSource::Kind::kNone, {}, "tool_choice"};
  }
  if (grammar) grammar->has_channels = has_channels;
  if (!grammar || choice.tools.empty() || !has_syntax) return {};
  grammar->calls = CallChoice{defaults.tool_syntax, choice.tools, choice.is_single};
  return {};
}

ApiStatus add_constraint(const ServedModel& model, const ClientGrammars& grammars,
                         Thinking thinking, PreparedGeneration* prepared) {
  if (model.forced_answers != nullptr) {
    prepared->constraint = model.forced_answers->find(prepared->prompts.front());
    if (prepared->constraint != nullptr) return {};
  }
  const std::optional<GrammarSource>& source = prepared->request.grammar;
  if (!source) return {};
  auto compiled = grammars.get(*source);
  if (!compiled) {
    const std::string message = fmt::format("'{}': {}", source->param, compiled.error().message);
    return compiled.error().code == ErrorCode::kUnsupported
               ? unsupported_field(source->param, message)
               : invalid_field(source->param, message);
  }
  prepared->constraint =
      std::make_shared<GrammarConstraint>(*std::move(compiled), *model.tokenizer, thinking);
  return {};
}

// What is not built for answers in channels.
ApiStatus check_harmony(bool is_harmony, const ChatRequest& request) {
  if (!is_harmony) return {};
  if (request.generation.choices.selection == Selection::kJudge) {
    return unsupported_field("best_of_mode",
                             "'best_of_mode' cannot be 'judge': this model answers in channels, in "
                             "which it cannot be asked for a number alone.");
  }
  if (request.continues_last && request.tool_choice.must_call) {
    return unsupported_field("continue_final_message",
                             "'continue_final_message' goes on with this model's final message, in "
                             "which it cannot call a tool.");
  }
  return {};
}

// Of a request that was read from any of the chat APIs.
ApiResult<PreparedGeneration> prepare_request(const ServedModel& model,
                                              const RequestDefaults& defaults,
                                              const ClientGrammars& grammars, CallMemory& calls,
                                              const KnownPrompts& known, Api api,
                                              ChatRequest request) {
  const bool is_harmony = defaults.tool_syntax == ToolSyntax::kHarmony;
  US_TRY(check_harmony(is_harmony, request));
  US_TRY(add_call_choice(defaults, &request));
  PreparedGeneration prepared;
  prepared.api = api;
  US_ASSIGN(prepared.stop, make_stop(request.generation.stop));
  const char* const param = api == Api::kResponses ? "input" : "messages";
  if (api == Api::kChat && request.generation.choices.selection == Selection::kJudge) {
    prepared.chat = request.prompt;
  }
  auto prompt = make_chat_prompt(model, &request, calls, known);
  if (!prompt) {
    if (prompt.error().param == "messages") prompt.error().param = param;
    return tl::unexpected(std::move(prompt.error()));
  }
  US_TRY(check_length(model, prompt->ids.size(), param));
  prepared.prompts.push_back(std::move(prompt->ids));
  prepared.request = std::move(request.generation);
  if (api != Api::kChat) prepared.request.choices = {};  // theirs have no choices
  prepared.parser.starts_in_reasoning = prompt->thinking == Thinking::kOpen;
  prepared.parser.starts_in_content = is_harmony && request.continues_last;
  prepared.parser.syntax = defaults.tool_syntax;
  prepared.parser.tools = ToolSchemas(request.tool_choice.tools);
  prepared.parser.id_prefix = (api == Api::kMessages ? "toolu_" : "call_") + random_id();
  if (request.tool_choice.is_single || has_one_call(defaults.tool_syntax)) {
    prepared.parser.max_calls = 1;
  }
  // The grammar of an answer in channels has the analysis in it.
  const Thinking thinking = is_harmony ? Thinking::kNone : prompt->thinking;
  US_TRY(add_constraint(model, grammars, thinking, &prepared));
  return prepared;
}

}  // namespace

RequestDefaults request_defaults(const ServedModel& model) {
  RequestDefaults defaults;
  defaults.model = model.name;
  defaults.fast_model = model.fast_name;
  defaults.vocab_size = static_cast<uint32_t>(model.tokenizer->vocab_size());
  for (uint32_t id = 0; id < defaults.vocab_size; ++id) {
    const size_t size = model.tokenizer->token_bytes(static_cast<int32_t>(id)).size();
    defaults.max_token_bytes = std::max(defaults.max_token_bytes, size);
  }
  defaults.params = model.defaults;
  defaults.tool_syntax = detect_tool_syntax(model.chat_template);
  return defaults;
}

ApiResult<ChatPrompt> make_chat_prompt(const ServedModel& model, ChatRequest* request,
                                       CallMemory& calls, const KnownPrompts& known) {
  if (model.chat_template == nullptr) {
    return unsupported_field("messages", "This model has no chat template; use /v1/completions.");
  }
  const std::optional<bool> enable_thinking = request->prompt.enable_thinking;
  text::ChatRequest chat = std::move(request->prompt);
  std::string continued;
  if (request->continues_last) {
    continued = chat.messages.back()["content"].get<std::string>();
    chat.add_generation_prompt = false;
  }
  auto rendered = render_with_calls(*model.chat_template, std::move(chat), calls);
  if (!rendered) return tl::unexpected(template_error(rendered.error()));
  ChatPrompt prompt;
  if (request->continues_last) US_TRY(end_in_last_message(continued, &*rendered));
  if (known.max_token_bytes > 0) {
    US_TRY(check_size(model, known.max_token_bytes, rendered->text.size(), "messages"));
  }
  if (known.memory != nullptr) {
    auto ids =
        known.memory->encode(known.client + request->generation.params.cache_domain, *rendered);
    if (!ids) return tl::unexpected(from_error(ids.error()));
    prompt.ids = *std::move(ids);
  } else {
    US_ASSIGN(prompt.ids, encode(model, rendered->text,
                                 {.parse_special = true,
                                  .add_special_tokens = false,
                                  .plain_ranges = rendered->input_ranges}));
  }
  prompt.thinking =
      request->continues_last ? Thinking::kNone : thinking_of(rendered->text, enable_thinking);
  return prompt;
}

ApiResult<PreparedGeneration> prepare_chat(const ServedModel& model,
                                           const RequestDefaults& defaults,
                                           const ClientGrammars& grammars, CallMemory& calls,
                                           const KnownPrompts& known, Api api,
                                           std::string_view body) {
  US_ASSIGN(ChatRequest request, api == Api::kMessages ? parse_messages_request(body, defaults)
                                                       : parse_chat_request(body, defaults));
  return prepare_request(model, defaults, grammars, calls, known, api, std::move(request));
}

ApiResult<PreparedGeneration> prepare_responses(const ServedModel& model,
                                                const RequestDefaults& defaults,
                                                const ClientGrammars& grammars, CallMemory& calls,
                                                const KnownPrompts& known, ResponseStore& store,
                                                ConnectionId connection, const Json& body) {
  US_ASSIGN(ResponsesRequest request, read_responses_request(body, defaults, store, connection));
  US_ASSIGN(PreparedGeneration prepared, prepare_request(model, defaults, grammars, calls, known,
                                                         Api::kResponses, std::move(request.chat)));
  prepared.responses = std::move(request.settings);
  if (prepared.responses.is_warm_up) {
    prepared.request.choices.has_output = false;
    prepared.request.params.max_tokens = 1;  // which the step of the prompt's end gives
  }
  return prepared;
}

ApiResult<PreparedGeneration> prepare_judgement(const ServedModel& model,
                                                const RequestDefaults& defaults,
                                                const ClientGrammars& grammars, CallMemory& calls,
                                                text::ChatRequest chat, std::string_view question,
                                                const std::vector<std::string>& texts) {
  std::string content(question);
  Json numbers = Json::array();
  for (size_t i = 0; i < texts.size(); ++i) {
    content += fmt::format("\n\nAnswer {}:\n{}", i + 1, texts[i]);
    numbers.push_back(fmt::format("{}", i + 1));
  }
  content += "\n\nReply with the number of the best answer alone.";
  chat.messages.push_back({{"role", "user"}, {"content", std::move(content)}});
  chat.enable_thinking = false;
  ChatRequest request;
  request.prompt = std::move(chat);
  PreparedGeneration prepared;
  US_ASSIGN(ChatPrompt prompt, make_chat_prompt(model, &request, calls));
  US_TRY(check_length(model, prompt.ids.size(), "messages"));
  prepared.prompts.push_back(std::move(prompt.ids));
  prepared.request.params = defaults.params;
  prepared.request.params.sampling.temperature = 0;
  prepared.request.grammar =
      GrammarSource{GrammarSource::Kind::kChoice, numbers.dump(), "judge_prompt"};
  US_TRY(add_constraint(model, grammars, Thinking::kNone, &prepared));
  return prepared;
}

namespace {

ApiStatus add_prompt(const ServedModel& model, const RequestDefaults& defaults,
                     const CompletionRequest& request, const CompletionRequest::Prompt& prompt,
                     PreparedGeneration* prepared) {
  const auto* text = std::get_if<std::string>(&prompt);
  std::vector<int32_t> ids;
  if (text == nullptr) {
    ids = std::get<std::vector<int32_t>>(prompt);
  } else {
    US_TRY(check_size(model, defaults.max_token_bytes, text->size(), "prompt"));
    US_ASSIGN(ids, encode(model, *text,
                          {.parse_special = true,
                           .add_special_tokens = request.add_special_tokens,
                           .plain_ranges = {}}));
  }
  US_TRY(check_length(model, ids.size(), "prompt"));
  if (request.echo) {
    prepared->echoes.push_back(text != nullptr ? *text : model.tokenizer->decode(ids));
  }
  prepared->prompts.push_back(std::move(ids));
  return {};
}

}  // namespace

ApiResult<PreparedGeneration> prepare_completion(const ServedModel& model,
                                                 const RequestDefaults& defaults,
                                                 const ClientGrammars& grammars,
                                                 std::string_view body) {
  US_ASSIGN(CompletionRequest request, parse_completion_request(body, defaults));
  PreparedGeneration prepared;
  US_ASSIGN(prepared.stop, make_stop(request.generation.stop));
  for (const CompletionRequest::Prompt& prompt : request.prompts) {
    US_TRY(add_prompt(model, defaults, request, prompt, &prepared));
  }
  prepared.request = std::move(request.generation);
  US_TRY(add_constraint(model, grammars, Thinking::kNone, &prepared));
  return prepared;
}

}  // namespace ultraspeed::server
