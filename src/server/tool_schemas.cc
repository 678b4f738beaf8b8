#include "server/tool_schemas.h"

#include <algorithm>
#include <array>
#include <utility>

#include "grammar/json_schema_keywords.h"
#include "server/json_text.h"

namespace ultraspeed::server {
namespace {

constexpr std::array<std::pair<std::string_view, JsonTypes>, 7> kTypeNames = {{
    {"string", kString},
    {"integer", kInteger},
    {"number", kNumber},
    {"boolean", kBoolean},
    {"object", kObject},
    {"array", kArray},
    {"null", kNull},
}};

JsonTypes named_type(const Json& name) {
  for (const auto& [known, type] : kTypeNames) {
    if (name == known) return type;
  }
  return kAnyType;
}

JsonTypes type_of_value(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return kNull;
    case Json::value_t::object:
      return kObject;
    case Json::value_t::array:
      return kArray;
    case Json::value_t::string:
      return kString;
    case Json::value_t::boolean:
      return kBoolean;
    default:
      return kInteger | kNumber;
  }
}

// Of all elements together; one of unknown type makes the whole unknown.
template <class Function>
JsonTypes types_of_each(const Json& array, Function types_of_element) {
  JsonTypes all = kAnyType;
  for (const Json& element : array) {
    const JsonTypes types = types_of_element(element);
    if (types == kAnyType) return kAnyType;
    all |= types;
  }
  return all;
}

constexpr uint32_t kMaxReferences = 32;  // one behind the other

// What a schema without "type" is about: keywords of the type.
constexpr std::array<std::pair<std::string_view, JsonTypes>, 15> kTypesOfKeywords = {{
    {"properties", kObject},
    {"required", kObject},
    {"additionalProperties", kObject},
    {"items", kArray},
    {"prefixItems", kArray},
    {"minItems", kArray},
    {"maxItems", kArray},
    {"minLength", kString},
    {"maxLength", kString},
    {"pattern", kString},
    {"format", kString},
    {"minimum", kNumber | kInteger},
    {"maximum", kNumber | kInteger},
    {"exclusiveMinimum", kNumber | kInteger},
    {"exclusiveMaximum", kNumber | kInteger},
}};

JsonTypes types_of_keywords(const Json& schema) {
  JsonTypes types = kAnyType;
  for (const auto& [keyword, type] : kTypesOfKeywords) {
    if (schema.contains(keyword)) types |= type;
  }
  return types;
}

// The depth is that of the request's JSON and of references, which are bounded.
class TypeReader {
 public:
  explicit TypeReader(const Json& root) : root_(root) {}

  JsonTypes types_of(const Json& schema) {
    if (!schema.is_object()) return kAnyType;
    const JsonTypes types = types_beside_null(schema);
    const bool is_nullable = types != kAnyType && schema.value("nullable", Json()) == true;
    return is_nullable ? types | kNull : types;
  }

 private:
  JsonTypes types_beside_null(const Json& schema) {
    if (const auto type = schema.find("type"); type != schema.end()) {
      return type->is_array() ? types_of_each(*type, named_type) : named_type(*type);
    }
    const auto types_of_part = [this](const Json& part) { return types_of(part); };
    if (const auto reference = schema.find("$ref"); reference != schema.end()) {
      return reference->is_string() ? types_of_target(reference->get<std::string>()) : kAnyType;
    }
    for (const char* keyword : {"anyOf", "oneOf"}) {
      const auto choices = schema.find(keyword);
      if (choices != schema.end() && choices->is_array()) {
        return types_of_each(*choices, types_of_part);
      }
    }
    if (const auto parts = schema.find("allOf"); parts != schema.end() && parts->is_array()) {
      return types_of_all(*parts);
    }
    const auto values = schema.find("enum");
    if (values != schema.end() && values->is_array()) return types_of_each(*values, type_of_value);
    const auto value = schema.find("const");
    return value != schema.end() ? type_of_value(*value) : types_of_keywords(schema);
  }

  // Parts of unknown type leave it to the others.
  JsonTypes types_of_all(const Json& parts) {
    JsonTypes all = kAnyType;
    for (const Json& part : parts) {
      const JsonTypes types = types_of(part);
      if (types != kAnyType) all = all == kAnyType ? types : all & types;
    }
    return all;
  }

  // Each is followed once, one that leads to itself is of unknown type.
  JsonTypes types_of_target(const std::string& reference) {
    const auto [known, is_new] = targets_.try_emplace(reference, kAnyType);
    const auto target = grammar::resolve_reference(root_, reference, "");
    if (!is_new || !target || num_open_ == kMaxReferences) return known->second;
    ++num_open_;
    known->second = types_of(**target);
    --num_open_;
    return known->second;
  }

  const Json& root_;
  std::map<std::string, JsonTypes> targets_;
  uint32_t num_open_ = 0;
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

// The type of a valid JSON text.
JsonTypes type_of_json(std::string_view json) {
  switch (json.front()) {
    case '{':
      return kObject;
    case '[':
      return kArray;
    case '"':
      return kString;
    case 't':
    case 'f':
      return kBoolean;
    case 'n':
      return kNull;
    default:
      return json.find_first_not_of("-0123456789") == std::string_view::npos ? kInteger | kNumber
                                                                             : kNumber;
  }
}

// Models that have read much Python write its names.
std::string_view json_of_python_name(std::string_view name, JsonTypes types) {
  if ((types & kBoolean) != 0 && name == "True") return "true";
  if ((types & kBoolean) != 0 && name == "False") return "false";
  if ((types & kNull) != 0 && name == "None") return "null";
  return {};
}

}  // namespace

JsonTypes types_of_schema(const Json& schema, const Json& root) {
  return TypeReader(root).types_of(schema);
}

Json type_names(JsonTypes types) {
  Json names = Json::array();
  for (const auto& [name, type] : kTypeNames) {
    if ((types & type) != 0) names.push_back(name);
  }
  return names;
}

ToolSchemas::ToolSchemas(const Json& tools) {
  for (const Json& tool : tools) {
    const Json& function = tool["function"];
    Parameters parameters;
    const auto schema = function.find("parameters");
    if (schema != function.end() && schema->is_object()) {
      const auto properties = schema->find("properties");
      if (properties != schema->end() && properties->is_object()) {
        TypeReader reader(*schema);
        for (const auto& [key, value] : properties->items()) {
          parameters.emplace(key, reader.types_of(value));
        }
      }
    }
    tools_.emplace(function["name"].get<std::string>(), std::move(parameters));
  }
}

JsonTypes ToolSchemas::parameter_types(std::string_view tool, std::string_view parameter) const {
  const auto parameters = tools_.find(tool);
  if (parameters == tools_.end()) return kAnyType;
  const auto types = parameters->second.find(parameter);
  return types == parameters->second.end() ? kAnyType : types->second;
}

void append_parameter_value(std::string& out, std::string_view text, JsonTypes types) {
  const std::string_view json = trim(text);
  // At a zero byte accept() takes the text for ended.
  if (!json.empty() && json.find('\0') == std::string_view::npos && Json::accept(json)) {
    JsonTypes found = type_of_json(json);
    // Where nothing else may come, 1.5 is a wrong integer rather than a string.
    if (found == kNumber && (types & kString) == 0) found |= kInteger;
    const bool is_expected = (types & found & ~kString) != 0 || types == kAnyType;
    if (is_expected) {
      out += json;
      return;
    }
  }
  const std::string_view name = json_of_python_name(json, types);
  if (!name.empty()) {
    out += name;
  } else {
    append_json_string(out, text);
  }
}

}  // namespace ultraspeed::server
