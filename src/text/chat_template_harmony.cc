#include "text/chat_template_harmony.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace ultraspeed::text {
namespace {

using Json = nlohmann::ordered_json;

std::string text_of(const Json& message, const char* name) {
  const auto found = message.find(name);
  return found != message.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// Text behind other text, as a paragraph of its own.
void append_paragraph(const std::string& more, std::string* text) {
  if (more.empty()) return;
  if (!text->empty()) *text += "\n\n";
  *text += more;
}

bool is_system(const Json& message) {
  return message["role"] == "system" || message["role"] == "developer";
}

Json take_system_messages(Json* messages) {
  std::string text;
  bool has_system = false;
  Json others = Json::array();
  for (Json& message : *messages) {
    if (is_system(message)) {
      has_system = true;
      append_paragraph(text_of(message, "content"), &text);
    } else {
      others.push_back(std::move(message));
    }
  }
  Json result = Json::array();
  if (has_system) result.push_back({{"role", "system"}, {"content", std::move(text)}});
  *messages = std::move(others);
  return result;
}

// An assistant's message without its calls.
Json prepare_turn(Json message, bool has_calls) {
  std::string thinking = text_of(message, "thinking");
  if (thinking.empty()) thinking = text_of(message, "reasoning_content");
  std::string content = text_of(message, "content");
  message.erase("reasoning_content");
  message.erase("tool_calls");
  message.erase("thinking");
  if (has_calls) append_paragraph(std::exchange(content, {}), &thinking);
  message["content"] = std::move(content);
  if (!thinking.empty()) message["thinking"] = std::move(thinking);
  return message;
}

// The call that a result is of: the one of its id, else that of its place.
size_t call_of(const Json& result, size_t place, const Json& calls) {
  const std::string id = text_of(result, "tool_call_id");
  for (size_t i = 0; i < calls.size(); ++i) {
    if (!id.empty() && text_of(calls[i], "id") == id) return i;
  }
  return std::min(place, calls.size() - 1);
}

// Each call with its results. `results` are the tool's messages behind the calls.
void add_calls(Json turn, Json calls, std::vector<Json> results, Json* out) {
  std::vector<std::vector<Json>> results_of(calls.size());
  for (size_t i = 0; i < results.size(); ++i) {
    results_of[call_of(results[i], i, calls)].push_back(std::move(results[i]));
  }
  for (size_t i = 0; i < calls.size(); ++i) {
    turn["tool_calls"] = Json::array({std::move(calls[i])});
    out->push_back(turn);
    for (Json& result : results_of[i]) out->push_back(std::move(result));
    turn = {{"role", "assistant"}, {"content", ""}};
  }
}

}  // namespace

bool writes_harmony(std::string_view template_source) {
  const auto has = [template_source](std::string_view mark) {
    return template_source.find(mark) != std::string_view::npos;
  };
  return has("<|start|>") && has("<|channel|>") && has("<|message|>");
}

Json harmony_messages(Json messages) {
  Json out = take_system_messages(&messages);
  for (size_t i = 0; i < messages.size(); ++i) {
    Json& message = messages[i];
    if (message["role"] != "assistant") {
      out.push_back(std::move(message));
      continue;
    }
    const auto found = message.find("tool_calls");
    const bool has_calls = found != message.end();
    Json calls = has_calls ? std::move(*found) : Json();
    Json turn = prepare_turn(std::move(message), has_calls);
    if (!has_calls) {
      out.push_back(std::move(turn));
      continue;
    }
    std::vector<Json> results;
    while (i + 1 < messages.size() && messages[i + 1]["role"] == "tool") {
      results.push_back(std::move(messages[++i]));
    }
    add_calls(std::move(turn), std::move(calls), std::move(results), &out);
  }
  return out;
}

Json harmony_tools(Json tools) {
  for (Json& tool : tools) {
    Json& function = tool.contains("function") ? tool["function"] : tool;
    if (function.is_object() && text_of(function, "description").empty()) {
      function["description"] = "";
    }
  }
  return tools;
}

void set_harmony_effort(bool is_thinking_off, Json* variables) {
  if (variables->is_null()) *variables = Json::object();
  std::string effort = text_of(*variables, "reasoning_effort");
  if (effort == "none" || effort == "minimal") effort = "low";
  if (effort == "xhigh" || effort == "max") effort = "high";
  if (effort.empty() && is_thinking_off) effort = "low";
  if (!effort.empty()) (*variables)["reasoning_effort"] = std::move(effort);
}

}  // namespace ultraspeed::text
