#include "server/responses_tools.h"

#include <fmt/format.h>

#include <utility>

#include "server/chat_request.h"

namespace ultraspeed::server {
namespace {

ApiResult<std::string> tool_name(const Fields& fields) {
  std::string name;
  US_TRY(fields.read("name", &name));
  if (name.empty()) {
    return invalid_field(fields.path("name"), fmt::format("'{}' is missing.", fields.path("name")));
  }
  return name;
}

ApiResult<std::string> tool_type(const Json& object, const std::string& path) {
  US_TRY(check_object(object, path));
  const Fields fields(object, path);
  std::string type;
  US_TRY(fields.read("type", &type));
  if (type.empty()) {
    return invalid_field(fields.path("type"), fmt::format("'{}' is missing.", fields.path("type")));
  }
  return type;
}

// {"type": "text"} or {"type": "grammar", "syntax": "lark" | "regex", "definition": ...}. Nothing
// forces the model to keep to it.
ApiStatus add_format(const Fields& tool, std::string* description) {
  const Json* format = nullptr;
  US_TRY(tool.read_object("format", &format));
  if (format == nullptr) return {};
  const Fields fields(*format, tool.path("format"));
  std::string type;
  std::string syntax;
  std::string definition;
  US_TRY(fields.read("type", &type));
  US_TRY(fields.read("syntax", &syntax));
  US_TRY(fields.read("definition", &definition));
  if (type == "grammar") {
    *description +=
        fmt::format("\n\n'{}' must match this {} grammar:\n{}", kCustomInput, syntax, definition);
  }
  return {};
}

class ToolReader {
 public:
  ApiStatus add(const Json& tool, const std::string& path) {
    US_ASSIGN(const std::string type, tool_type(tool, path));
    if (type == "namespace") return add_namespace(Fields(tool, path));
    return add_tool(type, Fields(tool, path), {});
  }

  ResponsesTools take() { return std::move(tools_); }

 private:
  ApiStatus add_namespace(const Fields& fields) {
    US_ASSIGN(const std::string name, tool_name(fields));
    const Json* array = nullptr;
    US_TRY(fields.read_array("tools", &array));
    for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
      const std::string path = element_path(fields.path("tools"), i);
      US_ASSIGN(const std::string type, tool_type((*array)[i], path));
      US_TRY(add_tool(type, Fields((*array)[i], path), name));
    }
    return {};
  }

  ApiStatus add_tool(const std::string& type, const Fields& fields, const std::string& name_space) {
    const bool is_custom = type == "custom";
    if (!is_custom && type != "function") return {};
    US_ASSIGN(const std::string name, tool_name(fields));
    US_TRY(check_tool_name(full_tool_name(name_space, name), fields.path("name")));
    std::string description;
    US_TRY(fields.read("description", &description));
    Json parameters;
    bool is_strict = false;
    if (is_custom) {
      US_TRY(add_format(fields, &description));
      parameters = {{"type", "object"},
                    {"properties",
                     {{kCustomInput,
                       {{"type", "string"}, {"description", "All of the input, as plain text."}}}}},
                    {"required", Json::array({kCustomInput})}};
    } else {
      const Json* schema = nullptr;
      US_TRY(fields.read_object("parameters", &schema));
      if (schema != nullptr) parameters = *schema;
      US_TRY(fields.read("strict", &is_strict));
    }
    Json function = {{"name", full_tool_name(name_space, name)},
                     {"description", std::move(description)}};
    if (!parameters.is_null()) function["parameters"] = std::move(parameters);
    if (is_strict) function["strict"] = true;
    tools_.by_function[function["name"]] = {name, name_space, is_custom};
    tools_.functions.push_back({{"type", "function"}, {"function", std::move(function)}});
    return {};
  }

  ResponsesTools tools_;
};

// {"type": "function" | "custom", "name": ...}
ApiResult<Json> chosen_tool(const Json& tool, const std::string& path) {
  US_ASSIGN(const std::string type, tool_type(tool, path));
  if (type != "function" && type != "custom") {
    return unsupported_field(
        path, fmt::format("'{}' names a tool of type '{}'; only 'function' and 'custom' are "
                          "supported.",
                          path, type));
  }
  const Fields fields(tool, path);
  US_ASSIGN(const std::string name, tool_name(fields));
  std::string name_space;
  US_TRY(fields.read("namespace", &name_space));
  return Json{{"type", "function"}, {"function", {{"name", full_tool_name(name_space, name)}}}};
}

// {"type": "allowed_tools", "mode": ..., "tools": [...]}; chats have it in an object of its own.
ApiResult<Json> chosen_tools(const Fields& fields) {
  Json allowed = Json::object();
  if (const Json* mode = fields.find("mode")) allowed["mode"] = *mode;
  allowed["tools"] = Json::array();
  const Json* array = nullptr;
  US_TRY(fields.read_array("tools", &array));
  for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
    US_ASSIGN(Json tool, chosen_tool((*array)[i], element_path(fields.path("tools"), i)));
    allowed["tools"].push_back(std::move(tool));
  }
  return Json{{"type", "allowed_tools"}, {"allowed_tools", std::move(allowed)}};
}

}  // namespace

std::string full_tool_name(const std::string& name_space, const std::string& name) {
  return name_space.empty() ? name : fmt::format("{}__{}", name_space, name);
}

ApiResult<ResponsesTools> read_responses_tools(const Fields& fields) {
  const Json* array = nullptr;
  US_TRY(fields.read_array("tools", &array));
  ToolReader reader;
  for (size_t i = 0; array != nullptr && i < array->size(); ++i) {
    US_TRY(reader.add((*array)[i], element_path("tools", i)));
  }
  return reader.take();
}

ApiResult<Json> read_responses_tool_choice(const Fields& fields) {
  const Json* choice = fields.find("tool_choice");
  if (choice == nullptr) return Json();
  if (!choice->is_object()) return *choice;
  US_ASSIGN(const std::string type, tool_type(*choice, "tool_choice"));
  if (type == "allowed_tools") return chosen_tools(Fields(*choice, "tool_choice"));
  return chosen_tool(*choice, "tool_choice");
}

}  // namespace ultraspeed::server
