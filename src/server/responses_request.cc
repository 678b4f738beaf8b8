#include "server/responses_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <utility>

#include "server/responses_input.h"

namespace ultraspeed::server {
namespace {

// Fields that have no meaning in chat requests or another one, or that are mapped.
constexpr std::array<std::string_view, 17> kNotOfChats = {
    "input",   "instructions", "tools",    "tool_choice",    "text",           "reasoning",
    "include", "store",        "metadata", "messages",       "prompt",         "functions",
    "n",       "best_of",      "logprobs", "stream_options", "response_format"};

constexpr std::array<std::string_view, 3> kSummaries = {"auto", "concise", "detailed"};
constexpr std::array<std::string_view, 3> kVerbosities = {"low", "medium", "high"};
constexpr std::array<std::string_view, 2> kTruncations = {"auto", "disabled"};

// What this server keeps or does only while a client waits.
ApiStatus check_absent_services(const Fields& fields) {
  bool is_background = false;
  US_TRY(fields.read("background", &is_background));
  if (is_background) {
    return unsupported_field("background", "'background' is not supported; wait for the answer.");
  }
  for (const char* name : {"conversation", "prompt"}) {
    if (fields.find(name) == nullptr) continue;
    return unsupported_field(name, fmt::format("'{}' is not supported; send the items in 'input' "
                                               "or continue by 'previous_response_id'.",
                                               name));
  }
  return {};
}

ApiStatus check_labels(const Fields& fields) {
  for (const char* name : {"prompt_cache_key", "safety_identifier", "user", "service_tier"}) {
    std::string text;
    US_TRY(fields.read(name, &text));
  }
  US_TRY(check_choice(fields, "truncation", kTruncations));
  const Json* metadata = nullptr;
  US_TRY(fields.read_object("metadata", &metadata));
  if (metadata == nullptr) return {};
  for (const auto& [name, value] : metadata->items()) {
    std::string text;
    US_TRY(Fields(*metadata, "metadata").read(name, &text));
  }
  return {};
}

ApiStatus map_reasoning(const Fields& fields, Json* chat) {
  const Json* reasoning = nullptr;
  US_TRY(fields.read_object("reasoning", &reasoning));
  if (reasoning == nullptr) return {};
  const Fields of_reasoning(*reasoning, "reasoning");
  US_TRY(check_choice(of_reasoning, "effort", kReasoningEfforts));
  US_TRY(check_choice(of_reasoning, "summary", kSummaries));
  if (const Json* effort = of_reasoning.find("effort")) (*chat)["reasoning_effort"] = *effort;
  return {};
}

// {"format": {"type": "text" | "json_object" | "json_schema", "schema": ...}, "verbosity": ...}
ApiStatus map_text(const Fields& fields, Json* chat) {
  const Json* text = nullptr;
  US_TRY(fields.read_object("text", &text));
  if (text == nullptr) return {};
  const Fields of_text(*text, "text");
  US_TRY(check_choice(of_text, "verbosity", kVerbosities));
  const Json* format = nullptr;
  US_TRY(of_text.read_object("format", &format));
  if (format == nullptr) return {};
  constexpr std::array<std::string_view, 3> kFormats = {"text", "json_object", "json_schema"};
  const Fields of_format(*format, "text.format");
  US_TRY(check_choice(of_format, "type", kFormats));
  const Json* schema = nullptr;
  US_TRY(of_format.read_object("schema", &schema));
  const bool has_schema =
      of_format.find("type") != nullptr && *of_format.find("type") == kFormats[2];
  if (has_schema && schema == nullptr) {
    return invalid_field("text.format.schema", "'text.format.schema' is missing.");
  }
  Json& response_format = (*chat)["response_format"];
  response_format = *format;
  if (has_schema) response_format["json_schema"] = {{"schema", *schema}};
  return {};
}

ApiStatus map_include(const Fields& fields, Json* chat, ResponsesSettings* settings) {
  const Json* include = nullptr;
  US_TRY(fields.read_array("include", &include));
  const auto has = [include](std::string_view name) {
    return include != nullptr &&
           std::find(include->begin(), include->end(), name) != include->end();
  };
  settings->seals_reasoning = has("reasoning.encrypted_content");
  const Json* top_logprobs = fields.find("top_logprobs");
  const bool wants_top = top_logprobs != nullptr && *top_logprobs != 0;
  (*chat)["logprobs"] = has("message.output_text.logprobs") || wants_top;
  return {};
}

// Clients on a WebSocket have the prompt of a turn that is to come computed.
ApiStatus read_warm_up(const Fields& fields, ResponsesSettings* settings) {
  bool generates = true;
  if (settings->connection != kNoConnection) US_TRY(fields.read("generate", &generates));
  settings->is_warm_up = !generates;
  return {};
}

ApiResult<Json> map_to_chat(const Json& json, ResponseStore& store, ResponsesSettings* settings) {
  const Fields fields(json);
  Json chat = Json::object();
  for (const auto& [name, value] : json.items()) {
    const bool is_of_chats =
        std::find(kNotOfChats.begin(), kNotOfChats.end(), name) == kNotOfChats.end();
    if (is_of_chats) chat[name] = value;
  }
  int64_t max_tokens = 0;
  US_TRY(fields.read_integer("max_output_tokens", 1, std::numeric_limits<int32_t>::max(),
                             &max_tokens));
  if (max_tokens > 0) chat["max_completion_tokens"] = max_tokens;
  US_TRY(map_reasoning(fields, &chat));
  US_TRY(map_text(fields, &chat));
  US_TRY(map_include(fields, &chat, settings));
  US_ASSIGN(settings->tools, read_responses_tools(fields));
  chat["tools"] = settings->tools.functions;
  US_ASSIGN(chat["tool_choice"], read_responses_tool_choice(fields));
  US_TRY(fields.read("store", &settings->is_stored));
  const ConnectionId connection = settings->connection;
  const bool is_kept = settings->is_stored || connection != kNoConnection;
  US_ASSIGN(ResponsesInput input, read_responses_input(fields, store, connection, is_kept));
  settings->previous_id = std::move(input.previous_id);
  settings->input = std::move(input.items);
  chat["messages"] = std::move(input.messages);
  return chat;
}

// Functions as the type of a response has them.
Json echoed_tools(const Fields& fields) {
  const Json* given = fields.find("tools");
  Json tools = given == nullptr ? Json::array() : *given;
  for (Json& tool : tools) {
    if (tool["type"] != "function") continue;
    for (const char* name : {"parameters", "strict"}) {
      if (!tool.contains(name)) tool[name] = nullptr;
    }
  }
  return tools;
}

// As short as it was given.
Json shortest_number(float value) {
  return Json::parse(fmt::format("{}", value));
}

std::string request_echo(const Fields& fields, const ResponsesRequest& request) {
  const auto given = [&fields](const char* name, Json otherwise = nullptr) {
    const Json* field = fields.find(name);
    return field == nullptr ? std::move(otherwise) : *field;
  };
  const engine::SamplingParams& sampling = request.chat.generation.params.sampling;
  Json reasoning = {{"effort", nullptr}, {"summary", nullptr}};
  reasoning.update(given("reasoning", Json::object()));
  Json text = {{"format", {{"type", "text"}}}};
  text.update(given("text", Json::object()));
  Json echo = {{"access_programs", nullptr},
               {"background", false},
               {"instructions", given("instructions")},
               {"max_output_tokens", given("max_output_tokens")},
               {"metadata", given("metadata", Json::object())},
               {"parallel_tool_calls", given("parallel_tool_calls", true)},
               {"previous_response_id", given("previous_response_id")},
               {"prompt_cache_key", given("prompt_cache_key")},
               {"reasoning", std::move(reasoning)},
               {"safety_identifier", given("safety_identifier")},
               {"store", request.settings.is_stored},
               {"temperature", shortest_number(sampling.temperature)},
               {"text", std::move(text)},
               {"tool_choice", given("tool_choice", "auto")},
               {"tools", echoed_tools(fields)},
               {"top_logprobs", given("top_logprobs", 0)},
               {"top_p", shortest_number(sampling.top_p)},
               {"truncation", "disabled"}};
  if (fields.find("user") != nullptr) echo["user"] = given("user");
  const std::string json = echo.dump();
  return json.substr(1, json.size() - 2);
}

}  // namespace

ApiResult<ResponsesRequest> read_responses_request(const Json& json,
                                                   const RequestDefaults& defaults,
                                                   ResponseStore& store, ConnectionId connection) {
  const Fields fields(json);
  US_TRY(check_absent_services(fields));
  US_TRY(check_labels(fields));
  ResponsesRequest request;
  request.settings.connection = connection;
  US_TRY(read_warm_up(fields, &request.settings));
  US_ASSIGN(Json chat, map_to_chat(json, store, &request.settings));
  US_ASSIGN(request.chat, read_chat_request(&chat, defaults));
  std::optional<GrammarSource>& grammar = request.chat.generation.grammar;
  if (grammar && grammar->param.starts_with("response_format")) {
    grammar->param = "text.format.schema";
  }
  request.settings.echo = request_echo(fields, request);
  return request;
}

ApiResult<ResponsesRequest> parse_responses_request(std::string_view body,
                                                    const RequestDefaults& defaults,
                                                    ResponseStore& store) {
  US_ASSIGN(const Json json, parse_json_object(body));
  return read_responses_request(json, defaults, store);
}

}  // namespace ultraspeed::server
