#include "server/conversation_reader.h"

#include <fmt/format.h>

#include <utility>

#include "server/responses_tools.h"

namespace ultraspeed::server {
namespace {

// Of a part like most of them; nullptr: part_text() knows better.
const std::string* usual_text(const Json& part) {
  if (!part.is_object()) return nullptr;
  const auto type = part.find("type");
  const auto text = part.find("text");
  if (type == part.end() || !type->is_string() || text == part.end()) return nullptr;
  if (!type->get_ref<const std::string&>().ends_with("text")) return nullptr;
  return text->get_ptr<const std::string*>();
}

ApiResult<std::string> part_text(const Json& part, const std::string& path) {
  US_TRY(check_object(part, path));
  const Fields fields(part, path);
  std::string type;
  US_TRY(fields.read("type", &type));
  if (type == "refusal") return required_string(fields, "refusal");
  if (type.ends_with("text")) return required_string(fields, "text");
  return unsupported_field(
      path, fmt::format("'{}' is a part of type '{}'; this model reads text alone.", path, type));
}

// A string, or the texts of parts (input_text, output_text, reasoning_text, ...), one after the
// other.
ApiResult<std::string> text_of_parts(const Json& value, const std::string& path) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) {
    return invalid_field(path, fmt::format("'{}' must be a string or an array of parts, not {}.",
                                           path, type_name(value)));
  }
  std::string text;
  for (size_t i = 0; i < value.size(); ++i) {
    if (const std::string* usual = usual_text(value[i])) {
      text += *usual;
      continue;
    }
    US_ASSIGN(const std::string part, part_text(value[i], element_path(path, i)));
    text += part;
  }
  return text;
}

ApiResult<std::string> text_of_field(const Fields& fields, std::string_view name) {
  const Json* field = fields.find(name);
  if (field == nullptr) return std::string();
  return text_of_parts(*field, fields.path(name));
}

Json make_message(const char* role, std::string content) {
  Json message = Json::object();
  message["role"] = role;
  message["content"] = std::move(content);
  return message;
}

}  // namespace

std::string item_type(const Json& item) {
  const auto type = item.find("type");
  if (type != item.end() && type->is_string()) return type->get<std::string>();
  return item.contains("role") ? "message" : "item_reference";
}

ApiStatus ConversationReader::add(const Json& item, const std::string& path) {
  const std::string type = item_type(item);
  if (type == "message") return add_message(item, path);
  if (type == "reasoning") return add_reasoning(item, path);
  if (type == "function_call") return add_call(item, path, false);
  if (type == "custom_tool_call") return add_call(item, path, true);
  if (type == "function_call_output" || type == "custom_tool_call_output") {
    return add_output(item, path);
  }
  return unsupported_field(
      path, fmt::format("'{}' is an item of type '{}'; message, reasoning, function_call, "
                        "function_call_output, custom_tool_call, custom_tool_call_output and "
                        "item_reference are supported.",
                        path, type));
}

ApiStatus ConversationReader::add_message(const Json& item, const std::string& path) {
  const Fields fields(item, path);
  US_ASSIGN(const std::string role, required_string(fields, "role"));
  if (fields.find("content") == nullptr) {
    const std::string content_path = fields.path("content");
    return invalid_field(content_path, fmt::format("'{}' is missing.", content_path));
  }
  US_ASSIGN(std::string text, text_of_field(fields, "content"));
  if (role == "assistant") {
    turn_.has_begun = true;
    turn_.content += text;
  } else if (role == "user") {
    end_turn();
    messages_.push_back(make_message("user", std::move(text)));
  } else if (role == "system" || role == "developer") {
    end_turn();
    add_system(text);
  } else {
    return invalid_field(fields.path("role"),
                         fmt::format("'{}' is '{}'; it must be one of user, assistant, system, "
                                     "developer.",
                                     fields.path("role"), role));
  }
  return {};
}

// Templates expect one system message at the begin; clients send several.
void ConversationReader::add_system(const std::string& text) {
  if (messages_.size() == 1 && messages_[0]["role"] == "system") {
    messages_[0]["content"] =
        fmt::format("{}\n\n{}", messages_[0]["content"].get_ref<const std::string&>(), text);
  } else {
    messages_.push_back(make_message("system", text));
  }
}

// The reasoning itself, sealed or not, or what a client has of that of another server.
ApiStatus ConversationReader::add_reasoning(const Json& item, const std::string& path) {
  const Fields fields(item, path);
  US_ASSIGN(std::string text, text_of_field(fields, "content"));
  std::string sealed;
  US_TRY(fields.read("encrypted_content", &sealed));
  US_ASSIGN(std::string summary, text_of_field(fields, "summary"));
  if (text.empty() && sealed.starts_with(kSealedReasoning)) {
    text = sealed.substr(kSealedReasoning.size());
  }
  if (text.empty()) text = std::move(summary);
  // The model reasons at the begin of a turn.
  if (!turn_.content.empty() || !turn_.calls.empty()) end_turn();
  turn_.has_begun = true;
  turn_.reasoning += text;
  return {};
}

ApiStatus ConversationReader::add_call(const Json& item, const std::string& path, bool is_custom) {
  const Fields fields(item, path);
  US_ASSIGN(std::string id, required_string(fields, "call_id"));
  US_ASSIGN(const std::string name, required_string(fields, "name"));
  std::string name_space;
  US_TRY(fields.read("namespace", &name_space));
  Json arguments;
  if (is_custom) {
    US_ASSIGN(std::string input, required_string(fields, "input"));
    arguments = {{kCustomInput, std::move(input)}};
  } else {
    US_ASSIGN(arguments, required_string(fields, "arguments"));
  }
  turn_.has_begun = true;
  turn_.calls.push_back(
      {{"id", std::move(id)},
       {"type", "function"},
       {"function",
        {{"name", full_tool_name(name_space, name)}, {"arguments", std::move(arguments)}}}});
  return {};
}

ApiStatus ConversationReader::add_output(const Json& item, const std::string& path) {
  const Fields fields(item, path);
  US_ASSIGN(std::string id, required_string(fields, "call_id"));
  if (fields.find("output") == nullptr) {
    return invalid_field(fields.path("output"),
                         fmt::format("'{}' is missing.", fields.path("output")));
  }
  US_ASSIGN(std::string text, text_of_field(fields, "output"));
  end_turn();
  messages_.push_back(
      {{"role", "tool"}, {"tool_call_id", std::move(id)}, {"content", std::move(text)}});
  return {};
}

void ConversationReader::end_turn() {
  Turn turn = std::exchange(turn_, {});
  if (!turn.has_begun) return;
  Json message = make_message("assistant", std::move(turn.content));
  if (!turn.reasoning.empty()) message["reasoning_content"] = std::move(turn.reasoning);
  if (!turn.calls.empty()) message["tool_calls"] = std::move(turn.calls);
  messages_.push_back(std::move(message));
}

Json ConversationReader::take() {
  end_turn();
  return std::move(messages_);
}

}  // namespace ultraspeed::server
