#include "server/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace ultraspeed::server {
namespace {

constexpr size_t kMaxTools = 1024;  // an agent with several MCP servers has some hundred
constexpr std::array<std::string_view, 5> kRoles = {"system", "developer", "user", "assistant",
                                                    "tool"};

// Templates know OpenAI's "developer" as "system".
ApiStatus normalize_role(const std::string& path, Json* message) {
  US_TRY(check_object(*message, path));
  const Fields fields(*message, path);
  std::string role;
  US_TRY(fields.read("role", &role));
  if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
    return invalid_field(fields.path("role"),
                         fmt::format("'{}' is '{}'; it must be one of system, developer, user, "
                                     "assistant, tool.",
                                     fields.path("role"), role));
  }
  if (role == "developer") (*message)["role"] = "system";
  return {};
}

bool is_broken_object(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return false;  // no arguments
  // At a zero byte accept() takes the text for ended.
  return text[begin] != '{' || text.find('\0') != std::string::npos || !Json::accept(text);
}

// A conversation goes on after a call that was cut off or is no JSON: templates, which walk the
// arguments, get what there is of them as one string. What else is wrong the renderer says.
void make_arguments_readable(Json* message) {
  const auto calls = message->find("tool_calls");
  if (calls == message->end() || !calls->is_array()) return;
  for (Json& call : *calls) {
    if (!call.is_object() || !call.contains("function")) continue;
    Json& function = call["function"];
    if (!function.is_object() || !function.contains("arguments")) continue;
    Json& arguments = function["arguments"];
    const auto* text = arguments.get_ptr<const std::string*>();
    if (text != nullptr && is_broken_object(*text)) arguments = Json{{"arguments", *text}};
  }
}

ApiResult<Json> take_messages(Json* json) {
  const Json* array = nullptr;
  US_TRY(Fields(*json).read_array("messages", &array));
  if (array == nullptr || array->empty()) {
    return invalid_field("messages", "'messages' is missing or empty.");
  }
  Json messages = std::move((*json)["messages"]);
  for (size_t i = 0; i < messages.size(); ++i) {
    US_TRY(normalize_role(element_path("messages", i), &messages[i]));
    make_arguments_readable(&messages[i]);
  }
  return messages;
}

ApiStatus check_tool(const Json& tool, const std::string& path) {
  US_TRY(check_object(tool, path));
  const Fields fields(tool, path);
  std::string type;
  US_TRY(fields.read("type", &type));
  if (type != "function") {
    return unsupported_field(
        path, fmt::format("'{}' is of type '{}'; only 'function' is supported.", path, type));
  }
  const Json* function = nullptr;
  US_TRY(fields.read_object("function", &function));
  std::string name;
  if (function != nullptr) US_TRY(Fields(*function, fields.path("function")).read("name", &name));
  if (name.empty()) {
    const std::string name_path = fields.path("function.name");
    return invalid_field(name_path, fmt::format("'{}' is missing.", name_path));
  }
  return check_tool_name(name, fields.path("function.name"));
}

std::string function_name(const Json& tool) {
  return tool["function"]["name"].get<std::string>();
}

// The tools of those names. `path` is of the names' objects.
ApiResult<Json> tools_named(const Json& tools, const std::vector<std::string>& names,
                            const std::string& path) {
  Json chosen = Json::array();
  for (const std::string& name : names) {
    const auto tool = std::find_if(tools.begin(), tools.end(), [&](const Json& candidate) {
      return function_name(candidate) == name;
    });
    if (tool == tools.end()) {
      return invalid_field(path,
                           fmt::format("'{}' names '{}', which is none of the tools.", path, name));
    }
    chosen.push_back(*tool);
  }
  return chosen;
}

// The name in {"type": "function", "function": {"name": ...}}.
ApiResult<std::string> named_function(const Json& json, const std::string& path) {
  US_TRY(check_tool(json, path));
  return function_name(json);
}

// {"mode": "auto" | "required", "tools": [...]}
ApiStatus read_allowed_tools(const Fields& fields, const Json& tools, ToolChoice* choice) {
  const Json* allowed = nullptr;
  US_TRY(fields.read_object("allowed_tools", &allowed));
  if (allowed == nullptr) {
    return invalid_field(fields.path("allowed_tools"), "'tool_choice.allowed_tools' is missing.");
  }
  const Fields of_allowed(*allowed, fields.path("allowed_tools"));
  std::string mode = "auto";
  US_TRY(of_allowed.read("mode", &mode));
  if (mode != "auto" && mode != "required") {
    return invalid_field(of_allowed.path("mode"),
                         fmt::format("'{}' is '{}'; it must be 'auto' or 'required'.",
                                     of_allowed.path("mode"), mode));
  }
  choice->must_call = mode == "required";
  const Json* array = nullptr;
  US_TRY(of_allowed.read_array("tools", &array));
  std::vector<std::string> names;
  for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
    US_ASSIGN(const std::string name,
              named_function((*array)[i], element_path(of_allowed.path("tools"), i)));
    names.push_back(name);
  }
  US_ASSIGN(choice->tools, tools_named(tools, names, of_allowed.path("tools")));
  return {};
}

// REQUIRES: tools are checked.
ApiResult<ToolChoice> read_tool_choice(const Fields& fields, const Json& tools) {
  ToolChoice choice{tools};
  const Json* field = fields.find("tool_choice");
  if (field == nullptr || *field == "auto") return choice;
  if (*field == "none") return ToolChoice{Json::array()};
  if (*field == "required") {
    choice.must_call = true;
  } else if (field->is_object()) {
    const Fields of_choice(*field, "tool_choice");
    std::string type;
    US_TRY(of_choice.read("type", &type));
    if (type == "allowed_tools") {
      US_TRY(read_allowed_tools(of_choice, tools, &choice));
    } else {
      US_ASSIGN(const std::string name, named_function(*field, "tool_choice"));
      US_ASSIGN(choice.tools, tools_named(tools, {name}, "tool_choice"));
      choice.must_call = choice.is_single = true;
    }
  } else {
    return invalid_field("tool_choice",
                         "'tool_choice' must be 'auto', 'none', 'required' or an object that "
                         "names a function.");
  }
  if (choice.must_call && choice.tools.empty()) {
    return invalid_field("tool_choice", "'tool_choice' asks for a call, and there are no tools.");
  }
  return choice;
}

// Tools that must not be called are withheld from the prompt; those of allowed_tools are all in it,
// so that a cached prompt goes on to serve. "strict" is no affair of the model's.
ApiStatus read_tools(const Fields& fields, ChatRequest* request) {
  const Json* array = nullptr;
  US_TRY(fields.read_array("tools", &array));
  const Json* functions = nullptr;
  US_TRY(fields.read_array("functions", &functions));
  if (functions != nullptr && !functions->empty()) {
    return unsupported_field("functions", "'functions' is not supported; use 'tools'.");
  }
  if (array != nullptr && array->size() > kMaxTools) {
    return invalid_field("tools", fmt::format("'tools' has {} elements; at most {} may be.",
                                              array->size(), kMaxTools));
  }
  const Json tools = array == nullptr ? Json::array() : *array;
  for (size_t i = 0; i < tools.size(); ++i) {
    US_TRY(check_tool(tools[i], element_path("tools", i)));
  }
  US_ASSIGN(request->tool_choice, read_tool_choice(fields, tools));
  if (!request->tool_choice.tools.empty()) {
    request->prompt.tools = tools;
    for (Json& tool : request->prompt.tools) tool["function"].erase("strict");
  }
  bool is_parallel = true;
  US_TRY(fields.read("parallel_tool_calls", &is_parallel));
  if (!is_parallel) request->tool_choice.is_single = true;
  return {};
}

// OpenAI's reasoning_effort, {"type": "enabled" | "disabled"} as Xiaomi's API has it, which wins,
// and vLLM's chat_template_kwargs, which win over both.
ApiStatus read_template_variables(const Fields& fields, text::ChatRequest* prompt) {
  US_TRY(check_choice(fields, "reasoning_effort", kReasoningEfforts));
  if (const Json* effort = fields.find("reasoning_effort")) {
    prompt->enable_thinking = *effort != kReasoningEfforts.front();
    prompt->extra = Json{{"reasoning_effort", *effort}};
  }
  const Json* thinking = nullptr;
  US_TRY(fields.read_object("thinking", &thinking));
  if (thinking != nullptr) {
    std::string type;
    US_TRY(Fields(*thinking, "thinking").read("type", &type));
    if (type != "enabled" && type != "disabled") {
      return invalid_field("thinking.type", fmt::format("'thinking.type' is '{}'; it must be "
                                                        "'enabled' or 'disabled'.",
                                                        type));
    }
    prompt->enable_thinking = type == "enabled";
  }
  const Json* variables = nullptr;
  US_TRY(fields.read_object("chat_template_kwargs", &variables));
  if (variables == nullptr) return {};
  const Fields variable_fields(*variables, "chat_template_kwargs");
  bool enable_thinking = prompt->enable_thinking.value_or(true);
  US_TRY(variable_fields.read("enable_thinking", &enable_thinking));
  if (variable_fields.find("enable_thinking") != nullptr) prompt->enable_thinking = enable_thinking;
  if (prompt->extra.is_null()) prompt->extra = Json::object();
  prompt->extra.update(*variables);
  prompt->extra.erase("enable_thinking");
  return {};
}

ApiStatus read_logprobs(const Fields& fields, GenerationRequest* request) {
  US_TRY(fields.read("logprobs", &request->has_logprobs));
  int64_t top_logprobs = 0;
  US_TRY(fields.read_integer("top_logprobs", 0, kMaxTopLogprobs, &top_logprobs));
  if (top_logprobs > 0 && !request->has_logprobs) {
    return invalid_field("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.");
  }
  request->params.sampling.num_logprobs = static_cast<uint32_t>(top_logprobs);
  return {};
}

bool ends_in_text_of_assistant(const Json& messages) {
  const Json& last = messages.back();
  const Json* content = Fields(last).find("content");
  return last["role"] == "assistant" && !last.contains("tool_calls") && content != nullptr &&
         content->is_string() && !content->get_ref<const std::string&>().empty();
}

ApiStatus read_continuation(const Fields& fields, ChatRequest* request) {
  US_TRY(fields.read("continue_final_message", &request->continues_last));
  if (!request->continues_last || ends_in_text_of_assistant(request->prompt.messages)) return {};
  return invalid_field("continue_final_message",
                       "'continue_final_message' needs a last message "
                       "of the assistant with text and without calls.");
}

}  // namespace

ApiStatus check_tool_name(std::string_view name, const std::string& path) {
  constexpr size_t kMaxToolName = 128;
  constexpr size_t kMaxShownOfName = 160;
  static constexpr std::string_view kMarks = "_-.:/";
  const bool is_plain = std::all_of(name.begin(), name.end(), [](char c) {
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_letter || (c >= '0' && c <= '9') || kMarks.find(c) != std::string_view::npos;
  });
  if (is_plain && !name.empty() && name.size() <= kMaxToolName) return {};
  return invalid_field(
      path, fmt::format("'{}' is '{}'; a tool's name has 1 to {} characters, which may be letters, "
                        "digits, '_', '-', '.', ':' and '/'.",
                        path, name.substr(0, kMaxShownOfName), kMaxToolName));
}

ApiResult<ChatRequest> read_chat_request(Json* json, const RequestDefaults& defaults) {
  const Fields fields(*json);
  ChatRequest request;
  US_ASSIGN(request.generation, parse_generation_fields(fields, defaults));
  US_TRY(read_logprobs(fields, &request.generation));
  US_ASSIGN(request.prompt.messages, take_messages(json));
  US_TRY(read_continuation(fields, &request));
  US_TRY(read_tools(fields, &request));
  US_TRY(read_template_variables(fields, &request.prompt));
  return request;
}

ApiResult<ChatRequest> parse_chat_request(std::string_view body, const RequestDefaults& defaults) {
  US_ASSIGN(Json json, parse_json_object(body));
  US_ASSIGN(ChatRequest request, read_chat_request(&json, defaults));
  US_TRY(read_prompt_logprobs(Fields(json), &request.generation));
  return request;
}

}  // namespace ultraspeed::server
