#include "server/messages_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace ultraspeed::server {
namespace {

// One known client begins its system prompt with a line that differs in every request, at the cost
// of all that a prefix cache knows of the conversation.
constexpr std::string_view kBillingLine = "x-anthropic-billing-header:";

std::string without_billing_line(const std::string& text) {
  if (!text.starts_with(kBillingLine)) return text;
  const size_t end = text.find('\n');
  return end == std::string::npos ? std::string() : text.substr(end + 1);
}

ApiResult<std::string> block_type(const Json& block, const std::string& path) {
  US_TRY(check_object(block, path));
  std::string type;
  US_TRY(Fields(block, path).read("type", &type));
  return type;
}

tl::unexpected<ApiError> unsupported_block(const std::string& path, const std::string& type,
                                           std::string_view supported) {
  return unsupported_field(path, fmt::format("'{}' is a block of type '{}'; here {} are supported.",
                                             path, type, supported));
}

tl::unexpected<ApiError> not_text_or_blocks(const std::string& path, const Json& value) {
  return invalid_field(path, fmt::format("'{}' must be a string or an array of blocks, not {}.",
                                         path, type_name(value)));
}

// A string, or the texts of blocks, one after the other.
ApiResult<std::string> text_of(const Json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return not_text_or_blocks(path, value);
  std::string text;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string block_path = element_path(path, i);
    US_ASSIGN(const std::string type, block_type(value[i], block_path));
    if (type != "text") return unsupported_block(block_path, type, "blocks of text");
    US_ASSIGN(const std::string part, required_string(Fields(value[i], block_path), "text"));
    text += part;
  }
  return text;
}

ApiStatus add_system(const Json& system, Json* messages) {
  std::string text;
  if (system.is_array()) {
    for (size_t i = 0; i < system.size(); ++i) {
      const Json block = Json::array({system[i]});
      US_ASSIGN(const std::string part, text_of(block, element_path("system", i)));
      text += without_billing_line(part);
    }
  } else {
    US_ASSIGN(text, text_of(system, "system"));
    text = without_billing_line(text);
  }
  messages->push_back({{"role", "system"}, {"content", std::move(text)}});
  return {};
}

ApiStatus add_tool_result(const Json& block, const std::string& path, Json* messages) {
  const Fields fields(block, path);
  US_ASSIGN(std::string id, required_string(fields, "tool_use_id"));
  std::string text;
  if (const Json* content = fields.find("content")) {
    US_ASSIGN(text, text_of(*content, fields.path("content")));
  }
  bool is_error = false;
  US_TRY(fields.read("is_error", &is_error));
  if (is_error) text = "Error: " + text;  // templates know of no other way to say so
  messages->push_back(
      {{"role", "tool"}, {"tool_call_id", std::move(id)}, {"content", std::move(text)}});
  return {};
}

// Results of tools are messages of their own, in the order of the blocks.
ApiStatus add_user_blocks(const Json& blocks, const std::string& path, Json* messages) {
  const size_t num_messages = messages->size();
  std::string text;
  const auto flush = [&text, messages] {
    if (text.empty()) return;
    messages->push_back({{"role", "user"}, {"content", std::exchange(text, {})}});
  };
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string block_path = element_path(path, i);
    US_ASSIGN(const std::string type, block_type(blocks[i], block_path));
    if (type == "text") {
      US_ASSIGN(const std::string part, required_string(Fields(blocks[i], block_path), "text"));
      text += part;
    } else if (type == "tool_result") {
      flush();
      US_TRY(add_tool_result(blocks[i], block_path, messages));
    } else {
      return unsupported_block(block_path, type, "text and tool_result");
    }
  }
  flush();
  if (messages->size() == num_messages) {
    return invalid_field(path, fmt::format("'{}' has no text and no tool_result.", path));
  }
  return {};
}

ApiStatus add_tool_use(const Fields& fields, Json* calls) {
  US_ASSIGN(std::string id, required_string(fields, "id"));
  US_ASSIGN(std::string name, required_string(fields, "name"));
  const Json* input = nullptr;
  US_TRY(fields.read_object("input", &input));
  Json function = {{"name", std::move(name)},
                   {"arguments", input != nullptr ? *input : Json::object()}};
  calls->push_back(
      {{"id", std::move(id)}, {"type", "function"}, {"function", std::move(function)}});
  return {};
}

ApiStatus add_assistant_blocks(const Json& blocks, const std::string& path, Json* messages) {
  std::string text;
  std::string reasoning;
  Json calls = Json::array();
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string block_path = element_path(path, i);
    US_ASSIGN(const std::string type, block_type(blocks[i], block_path));
    const Fields fields(blocks[i], block_path);
    if (type == "text") {
      US_ASSIGN(const std::string part, required_string(fields, "text"));
      text += part;
    } else if (type == "thinking") {
      US_ASSIGN(const std::string part, required_string(fields, "thinking"));
      reasoning += part;
    } else if (type == "tool_use") {
      US_TRY(add_tool_use(fields, &calls));
    } else if (type != "redacted_thinking") {
      return unsupported_block(block_path, type, "text, thinking and tool_use");
    }
  }
  Json message = {{"role", "assistant"}, {"content", std::move(text)}};
  if (!reasoning.empty()) message["reasoning_content"] = std::move(reasoning);
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  messages->push_back(std::move(message));
  return {};
}

ApiStatus add_message(const Json& message, const std::string& path, Json* messages) {
  US_TRY(check_object(message, path));
  const Fields fields(message, path);
  std::string role;
  US_TRY(fields.read("role", &role));
  const Json* content = fields.find("content");
  const std::string content_path = fields.path("content");
  if (content == nullptr) {
    return invalid_field(content_path, fmt::format("'{}' is missing.", content_path));
  }
  if (content->is_string()) {
    if (role == "user" || role == "assistant" || role == "system") {
      messages->push_back({{"role", role}, {"content", *content}});
      return {};
    }
  } else if (!content->is_array()) {
    return not_text_or_blocks(content_path, *content);
  } else if (role == "user") {
    return add_user_blocks(*content, content_path, messages);
  } else if (role == "assistant") {
    return add_assistant_blocks(*content, content_path, messages);
  } else if (role == "system") {
    US_ASSIGN(std::string text, text_of(*content, content_path));
    messages->push_back({{"role", "system"}, {"content", std::move(text)}});
    return {};
  }
  return invalid_field(
      fields.path("role"),
      fmt::format("'{}' is '{}'; it must be 'user' or 'assistant'.", fields.path("role"), role));
}

// To leave it out in silence would answer the last turn without those before it.
ApiStatus refuse_thread(const Fields& fields) {
  if (fields.find("thread") == nullptr) return {};
  ApiError error;
  error.message = "'thread' is not supported: every request must have all messages.";
  error.param = "thread";
  error.code = kThreadUnsupported;
  return tl::unexpected(std::move(error));
}

ApiResult<Json> map_messages(const Fields& fields) {
  Json messages = Json::array();
  if (const Json* system = fields.find("system")) US_TRY(add_system(*system, &messages));
  const Json* array = nullptr;
  US_TRY(fields.read_array("messages", &array));
  if (array == nullptr || array->empty()) {
    return invalid_field("messages", "'messages' is missing or empty.");
  }
  for (size_t i = 0; i < array->size(); ++i) {
    US_TRY(add_message((*array)[i], element_path("messages", i), &messages));
  }
  return messages;
}

ApiResult<Json> map_tools(const Fields& fields) {
  const Json* array = nullptr;
  US_TRY(fields.read_array("tools", &array));
  Json tools = Json::array();
  if (array == nullptr) return tools;
  for (size_t i = 0; i < array->size(); ++i) {
    const std::string path = element_path("tools", i);
    US_ASSIGN(const std::string type, block_type((*array)[i], path));
    if (!type.empty() && type != "custom") {
      return unsupported_field(
          path,
          fmt::format("'{}' is of type '{}'; only tools of the client are supported.", path, type));
    }
    const Fields tool((*array)[i], path);
    US_ASSIGN(std::string name, required_string(tool, "name"));
    US_TRY(check_tool_name(name, tool.path("name")));
    std::string description;
    US_TRY(tool.read("description", &description));
    const Json* schema = nullptr;
    US_TRY(tool.read_object("input_schema", &schema));
    bool is_strict = false;
    US_TRY(tool.read("strict", &is_strict));
    Json function = {{"name", std::move(name)}, {"description", std::move(description)}};
    if (is_strict) function["strict"] = true;
    if (schema != nullptr) function["parameters"] = *schema;
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return tools;
}

// {"type": "auto" | "any" | "none" | "tool", "name": ..., "disable_parallel_tool_use": ...}
ApiStatus map_tool_choice(const Fields& fields, Json* chat) {
  const Json* choice = nullptr;
  US_TRY(fields.read_object("tool_choice", &choice));
  if (choice == nullptr) return {};
  const Fields choice_fields(*choice, "tool_choice");
  std::string type;
  US_TRY(choice_fields.read("type", &type));
  bool is_single = false;
  US_TRY(choice_fields.read("disable_parallel_tool_use", &is_single));
  if (is_single) (*chat)["parallel_tool_calls"] = false;
  if (type == "auto" || type == "none") {
    (*chat)["tool_choice"] = type;
  } else if (type == "any") {
    (*chat)["tool_choice"] = "required";
  } else if (type == "tool") {
    US_ASSIGN(std::string name, required_string(choice_fields, "name"));
    (*chat)["tool_choice"] = {{"type", "function"}, {"function", {{"name", std::move(name)}}}};
  } else {
    return invalid_field("tool_choice.type",
                         fmt::format("'tool_choice.type' is '{}'; it must be 'auto', 'any', "
                                     "'none' or 'tool'.",
                                     type));
  }
  return {};
}

ApiStatus map_stop(const Fields& fields, Json* chat) {
  const Json* stop = nullptr;
  US_TRY(fields.read_array("stop_sequences", &stop));
  if (stop == nullptr) return {};
  for (const Json& text : *stop) {
    if (!text.is_string()) {
      return invalid_field("stop_sequences", "'stop_sequences' must be an array of strings.");
    }
  }
  (*chat)["stop"] = *stop;
  return {};
}

// Its own name for OpenAI's "default".
void map_tier(const Fields& fields, Json* chat) {
  const Json* tier = fields.find("service_tier");
  if (tier != nullptr && *tier == "standard_only") (*chat)["service_tier"] = "default";
}

// The budget is the model's own affair. "adaptive" and "between_tools" leave the choice to it.
ApiStatus map_thinking(const Fields& fields, Json* chat) {
  const Json* thinking = nullptr;
  US_TRY(fields.read_object("thinking", &thinking));
  if (thinking == nullptr) return {};
  std::string type;
  US_TRY(Fields(*thinking, "thinking").read("type", &type));
  if (type == "adaptive" || type == "between_tools") {
    chat->erase("thinking");
  } else {
    (*chat)["thinking"] = {{"type", type}};
  }
  return {};
}

// output_config: {format: {type: "json_schema", schema: {...}}}, or the older output_format.
ApiStatus map_format(const Fields& fields, Json* chat) {
  const Json* config = nullptr;
  US_TRY(fields.read_object("output_config", &config));
  const Json* format = nullptr;
  if (config != nullptr) US_TRY(Fields(*config, "output_config").read_object("format", &format));
  if (format == nullptr) US_TRY(fields.read_object("output_format", &format));
  if (format == nullptr) return {};
  if (format->value("type", Json()) != "json_schema" || !format->contains("schema")) {
    return invalid_field("output_config.format",
                         "'output_config.format' must be {\"type\": \"json_schema\", "
                         "\"schema\": ...}.");
  }
  (*chat)["response_format"] = {{"type", "json_schema"},
                                {"json_schema", {{"schema", (*format)["schema"]}}}};
  return {};
}

// Fields that this API has under another name, or not at all.
constexpr std::array<std::string_view, 20> kNotTaken = {"system",
                                                        "messages",
                                                        "tools",
                                                        "tool_choice",
                                                        "stop_sequences",
                                                        "stop",
                                                        "n",
                                                        "best_of",
                                                        "logprobs",
                                                        "top_logprobs",
                                                        "functions",
                                                        "function_call",
                                                        "response_format",
                                                        "stream_options",
                                                        "output_config",
                                                        "output_format",
                                                        "max_completion_tokens",
                                                        "parallel_tool_calls",
                                                        "continue_final_message",
                                                        "reasoning_effort"};

// Of an assistant's last message the answer is the continuation.
bool ends_in_prefill(const Json& messages) {
  const Json& last = messages.back();
  return last["role"] == "assistant" && !last.contains("tool_calls") &&
         last["content"].is_string() && last["content"] != "";
}

// An error of the chat request in the words of this API.
ApiError in_own_words(ApiError error) {
  if (error.param != "stop") return error;
  error.param = "stop_sequences";
  for (size_t at = 0; (at = error.message.find("'stop'", at)) != std::string::npos; at += 6) {
    error.message.replace(at, 6, "'stop_sequences'");
  }
  return error;
}

ApiResult<ChatRequest> read_messages_request(const Json& json, const RequestDefaults& defaults) {
  const Fields fields(json);
  US_TRY(refuse_thread(fields));
  Json chat = Json::object();
  for (const auto& [name, value] : json.items()) {
    if (std::ranges::find(kNotTaken, name) == kNotTaken.end()) chat[name] = value;
  }
  US_ASSIGN(chat["messages"], map_messages(fields));
  US_ASSIGN(chat["tools"], map_tools(fields));
  US_TRY(map_tool_choice(fields, &chat));
  US_TRY(map_stop(fields, &chat));
  map_tier(fields, &chat);
  US_TRY(map_thinking(fields, &chat));
  US_TRY(map_format(fields, &chat));
  if (ends_in_prefill(chat["messages"])) chat["continue_final_message"] = true;
  auto request = read_chat_request(&chat, defaults);
  if (!request) return tl::unexpected(in_own_words(std::move(request.error())));
  return request;
}

}  // namespace

ApiResult<ChatRequest> parse_messages_request(std::string_view body,
                                              const RequestDefaults& defaults) {
  US_ASSIGN(const Json json, parse_json_object(body));
  if (Fields(json).find("max_tokens") == nullptr) {
    return invalid_field("max_tokens", "'max_tokens' is missing.");
  }
  return read_messages_request(json, defaults);
}

ApiResult<ChatRequest> parse_count_tokens_request(std::string_view body,
                                                  const RequestDefaults& defaults) {
  US_ASSIGN(const Json json, parse_json_object(body));
  return read_messages_request(json, defaults);
}

}  // namespace ultraspeed::server
