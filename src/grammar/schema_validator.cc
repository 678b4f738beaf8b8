// Keyword by keyword, as the specification has them.
#include "grammar/schema_validator.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <string>

namespace ultraspeed::grammar {
namespace {

using Json = nlohmann::ordered_json;

bool is_of_type(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  return value.is_number() && std::trunc(value.get<double>()) == value.get<double>();
}

size_t num_characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  }));
}

bool is_date(const std::string& text) {
  static const std::regex kDate("(\\d{4})-(\\d{2})-(\\d{2})");
  std::smatch match;
  if (!std::regex_match(text, match, kDate)) return false;
  const int year = std::stoi(match[1]), month = std::stoi(match[2]), day = std::stoi(match[3]);
  if (month < 1 || month > 12 || day < 1) return false;
  const bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  const int days = month == 2 ? (is_leap ? 29 : 28)
                              : (month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31);
  return day <= days;
}

bool is_time(const std::string& text) {
  static const std::regex kTime(
      "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d+)?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)");
  return std::regex_match(text, kTime);
}

bool has_format(const std::string& text, const std::string& format) {
  if (format == "date") return is_date(text);
  if (format == "time") return is_time(text);
  if (format == "date-time") {
    return text.size() > 10 && text[10] == 'T' && is_date(text.substr(0, 10)) &&
           is_time(text.substr(11));
  }
  static const std::regex kUuid("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}");
  if (format == "uuid") return std::regex_match(text, kUuid);
  static const std::regex kEmail("[^@.]+(\\.[^@.]+)*@[a-zA-Z0-9-]+(\\.[a-zA-Z0-9-]+)+");
  if (format == "email") return std::regex_match(text, kEmail);
  static const std::regex kAddress("(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})\\.(\\d{1,3})");
  std::smatch match;
  if (format == "ipv4") {
    return std::regex_match(text, match, kAddress) &&
           std::all_of(match.begin() + 1, match.end(),
                       [](const auto& octet) { return std::stoi(octet) <= 255; });
  }
  return true;
}

bool is_valid_string(const Json& schema, const std::string& text) {
  const size_t size = num_characters(text);
  if (schema.contains("minLength") && size < schema["minLength"]) return false;
  if (schema.contains("maxLength") && size > schema["maxLength"]) return false;
  if (schema.contains("pattern") &&
      !std::regex_search(text, std::regex(schema["pattern"].get<std::string>()))) {
    return false;
  }
  return !schema.contains("format") || has_format(text, schema["format"]);
}

bool is_valid_number(const Json& schema, double number) {
  if (schema.contains("minimum") && number < schema["minimum"].get<double>()) return false;
  if (schema.contains("maximum") && number > schema["maximum"].get<double>()) return false;
  if (schema.contains("exclusiveMinimum") && number <= schema["exclusiveMinimum"].get<double>()) {
    return false;
  }
  return !schema.contains("exclusiveMaximum") || number < schema["exclusiveMaximum"].get<double>();
}

bool is_valid_object(const Json& schema, const Json& object, const Json& root) {
  for (const Json& name : schema.value("required", Json::array())) {
    if (!object.contains(name.get<std::string>())) return false;
  }
  const Json properties = schema.value("properties", Json::object());
  const Json additional = schema.value("additionalProperties", Json(true));
  return std::all_of(object.items().begin(), object.items().end(), [&](const auto& item) {
    const bool is_known = properties.contains(item.key());
    return is_valid(is_known ? properties[item.key()] : additional, item.value(), root);
  });
}

bool is_valid_array(const Json& schema, const Json& array, const Json& root) {
  if (schema.contains("minItems") && array.size() < schema["minItems"]) return false;
  if (schema.contains("maxItems") && array.size() > schema["maxItems"]) return false;
  const Json prefix = schema.value("prefixItems", Json::array());
  const Json items = schema.value("items", Json(true));
  for (size_t i = 0; i < array.size(); ++i) {
    if (!is_valid(i < prefix.size() ? prefix[i] : items, array[i], root)) return false;
  }
  return true;
}

bool is_valid_combination(const Json& schema, const Json& value, const Json& root) {
  const auto satisfies = [&](const Json& part) { return is_valid(part, value, root); };
  for (const char* key : {"anyOf", "oneOf"}) {
    if (schema.contains(key) && std::none_of(schema[key].begin(), schema[key].end(), satisfies)) {
      return false;
    }
  }
  return !schema.contains("allOf") ||
         std::all_of(schema["allOf"].begin(), schema["allOf"].end(), satisfies);
}

bool is_allowed_type(const Json& schema, const Json& value) {
  if (!schema.contains("type")) return true;
  const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
  return (value.is_null() && schema.value("nullable", false)) ||
         std::any_of(types.begin(), types.end(),
                     [&](const Json& type) { return is_of_type(value, type); });
}

}  // namespace

bool is_valid(const Json& schema, const Json& value, const Json& root) {
  if (schema.is_boolean()) return schema.get<bool>();
  if (schema.contains("$ref")) {
    const std::string reference = schema["$ref"].get<std::string>().substr(1);
    if (!is_valid(root.at(Json::json_pointer(reference)), value, root)) return false;
  }
  if (!is_allowed_type(schema, value)) return false;
  if (schema.contains("const") && schema["const"] != value) return false;
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) {
    return false;
  }
  if (!is_valid_combination(schema, value, root)) return false;
  if (value.is_string()) return is_valid_string(schema, value.get<std::string>());
  if (value.is_number()) return is_valid_number(schema, value.get<double>());
  if (value.is_object()) return is_valid_object(schema, value, root);
  return !value.is_array() || is_valid_array(schema, value, root);
}

}  // namespace ultraspeed::grammar
