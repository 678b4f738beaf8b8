// Two schemas are combined keyword by keyword, where a keyword can say what both say.
#include "grammar/json_schema_keywords.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "grammar/limits.h"

namespace ultraspeed::grammar {
namespace {

enum class ValueType { kArray, kBoolean, kNumber, kObject, kSchema, kString, kTypes, kAny };

// What is kept to. Other keywords are annotations, but for those below.
constexpr std::array<std::pair<std::string_view, ValueType>, 24> kRestrictions = {{
    {"type", ValueType::kTypes},
    {"enum", ValueType::kArray},
    {"const", ValueType::kAny},
    {"properties", ValueType::kObject},
    {"required", ValueType::kArray},
    {"additionalProperties", ValueType::kSchema},
    {"items", ValueType::kSchema},
    {"prefixItems", ValueType::kArray},
    {"minItems", ValueType::kNumber},
    {"maxItems", ValueType::kNumber},
    {"minLength", ValueType::kNumber},
    {"maxLength", ValueType::kNumber},
    {"pattern", ValueType::kString},
    {"format", ValueType::kString},
    {"minimum", ValueType::kNumber},
    {"maximum", ValueType::kNumber},
    {"exclusiveMinimum", ValueType::kNumber},
    {"exclusiveMaximum", ValueType::kNumber},
    {"anyOf", ValueType::kArray},
    {"oneOf", ValueType::kArray},
    {"allOf", ValueType::kArray},
    {"$ref", ValueType::kString},
    {"nullable", ValueType::kBoolean},
    {"multipleOf", ValueType::kNumber},
}};

constexpr std::array<std::string_view, 21> kUnsupported = {"not",
                                                           "if",
                                                           "then",
                                                           "else",
                                                           "contains",
                                                           "minContains",
                                                           "maxContains",
                                                           "uniqueItems",
                                                           "minProperties",
                                                           "maxProperties",
                                                           "propertyNames",
                                                           "patternProperties",
                                                           "dependencies",
                                                           "dependentRequired",
                                                           "$dynamicRef",
                                                           "dependentSchemas",
                                                           "$recursiveRef",
                                                           "unevaluatedItems",
                                                           "contentSchema",
                                                           "unevaluatedProperties",
                                                           "additionalItems"};

std::string_view expected_text(ValueType type) {
  switch (type) {
    case ValueType::kArray:
      return "an array";
    case ValueType::kBoolean:
      return "a boolean";
    case ValueType::kNumber:
      return "a number";
    case ValueType::kObject:
      return "an object";
    case ValueType::kSchema:
      return "an object or a boolean";
    case ValueType::kString:
      return "a string";
    case ValueType::kTypes:
      return "a string or an array";
    case ValueType::kAny:
      break;
  }
  return "a value";
}

bool has_type(const Json& value, ValueType type) {
  switch (type) {
    case ValueType::kArray:
      return value.is_array();
    case ValueType::kBoolean:
      return value.is_boolean();
    case ValueType::kNumber:
      return value.is_number();
    case ValueType::kObject:
      return value.is_object();
    case ValueType::kSchema:
      return value.is_object() || value.is_boolean();
    case ValueType::kString:
      return value.is_string();
    case ValueType::kTypes:
      return value.is_string() || value.is_array();
    case ValueType::kAny:
      break;
  }
  return true;
}

// A keyword that restricts nothing with this value.
bool is_idle(const std::string& key, const Json& value) {
  if (key == "uniqueItems") return value == false;
  if (key == "minProperties") return value == 0;
  return false;
}

bool is_restriction(std::string_view key) {
  return std::any_of(kRestrictions.begin(), kRestrictions.end(),
                     [&](const auto& known) { return known.first == key; });
}

// Values in both arrays, in the order of the first.
Json in_both(const Json& a, const Json& b) {
  Json both = Json::array();
  const std::set<Json> others(b.begin(), b.end());
  for (const Json& value : a) {
    if (others.contains(value)) both.push_back(value);
  }
  return both;
}

Json as_array(const Json& value) {
  return value.is_array() ? value : Json::array({value});
}

// The types of both; an integer is a number.
Json common_types(const Json& a, const Json& b) {
  const auto has = [](const Json& list, const char* type) {
    return std::find(list.begin(), list.end(), type) != list.end();
  };
  const Json own = as_array(a), other = as_array(b);
  Json types = Json::array();
  for (const char* type : {"null", "boolean", "number", "string", "array", "object"}) {
    if (has(own, type) && has(other, type)) types.push_back(type);
  }
  const bool is_integer = (has(own, "integer") || has(own, "number")) &&
                          (has(other, "integer") || has(other, "number"));
  if (is_integer && !has(types, "number")) types.push_back("integer");
  return types;
}

// "nullable" as the type that it adds; without "type" beside it, it adds none.
void fold_nullable(Json* schema) {
  const Json* nullable = find_member(*schema, "nullable");
  if (nullable == nullptr) return;
  if (*nullable == true && schema->contains("type")) {
    Json& type = (*schema)["type"];
    type = as_array(type);
    type.push_back("null");
  }
  schema->erase("nullable");
}

// Two subschemas as one that is merged when it is compiled.
Json both_schemas(const Json& a, const Json& b) {
  if (a == b) return a;
  Json both = Json::object();
  both["allOf"] = Json::array({a, b});
  return both;
}

Status merge_properties(const Json& other, const std::string& path, Json* schema) {
  auto& properties = schema->get_ref<Json::object_t&>();  // a list, which is searched one by one
  std::map<std::string, ptrdiff_t> places;
  for (const auto& [name, value] : properties) places.emplace(name, std::ssize(places));
  for (const auto& [name, value] : other.items()) {
    if (!value.is_object() && !value.is_boolean()) {
      return make_error(ErrorCode::kInvalidArgument, "{}/properties/{}: expected a schema", path,
                        pointer_token(name));
    }
    const auto [place, is_new] = places.emplace(name, std::ssize(properties));
    if (is_new) {
      properties.emplace_back(name, value);
    } else {
      Json& property = std::next(properties.begin(), place->second)->second;
      property = both_schemas(property, value);
    }
  }
  return {};
}

// What a keyword of both says together. Errors: kUnsupported.
Status merge_keyword(const std::string& key, const Json& value, const std::string& path,
                     Json* own) {
  if (*own == value) return {};
  if (key == "type") {
    *own = common_types(*own, value);
  } else if (key == "enum") {
    *own = in_both(*own, value);
  } else if (key == "required") {
    std::set<Json> names(own->begin(), own->end());
    for (const Json& name : value) {
      if (names.insert(name).second) own->push_back(name);
    }
  } else if (key == "properties") {
    return merge_properties(value, path, own);
  } else if (key == "items" || key == "additionalProperties") {
    *own = both_schemas(*own, value);
  } else if (key.starts_with("min") || key == "exclusiveMinimum") {
    if (*own < value) *own = value;
  } else if (key.starts_with("max") || key == "exclusiveMaximum") {
    if (value < *own) *own = value;
  } else {
    return make_error(ErrorCode::kUnsupported,
                      "{}: schemas whose '{}' differs cannot be combined by allOf", path, key);
  }
  return {};
}

// With "additionalProperties" of one, the properties of the other would have to keep to it.
bool has_same_properties(const Json& a, const Json& b) {
  const Json* own = find_member(a, "properties");
  const Json* other = find_member(b, "properties");
  if (own == nullptr || other == nullptr) return own == other;
  std::set<std::string> names;
  for (const auto& item : own->items()) names.insert(item.key());
  return std::all_of(other->items().begin(), other->items().end(),
                     [&](const auto& item) { return names.contains(item.key()); });
}

// "items" are those behind "prefixItems", which may be more in the other.
bool has_other_items(const Json& a, const Json& b) {
  const auto says_items = [](const Json& schema) {
    return schema.contains("items") || schema.contains("prefixItems");
  };
  if (!says_items(a) || !says_items(b)) return false;
  if (!a.contains("items") && !b.contains("items")) return false;
  const Json* own = find_member(a, "prefixItems");
  const Json* other = find_member(b, "prefixItems");
  return own == nullptr || other == nullptr ? own != other : *own != *other;
}

std::string unescape_token(std::string_view token) {
  std::string key;
  for (size_t i = 0; i < token.size(); ++i) {
    unsigned value = 0;
    if (token[i] == '~' && i + 1 < token.size()) {
      key += token[++i] == '1' ? '/' : '~';
    } else if (token[i] == '%' && i + 2 < token.size() &&
               std::from_chars(&token[i + 1], &token[i + 1] + 2, value, 16).ptr ==
                   &token[i + 1] + 2) {
      key += static_cast<char>(value);
      i += 2;
    } else {
      key += token[i];
    }
  }
  return key;
}

// The member or element of this name, or nullptr.
const Json* find_child(const Json& json, const std::string& key) {
  if (json.is_object()) return find_member(json, key);
  size_t index = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
  const bool is_index = error == std::errc() && end == key.data() + key.size();
  return json.is_array() && is_index && index < json.size() ? &json[index] : nullptr;
}

}  // namespace

const Json* find_member(const Json& object, std::string_view key) {
  const auto place = object.find(std::string(key));
  return place == object.end() ? nullptr : &*place;
}

std::string pointer_token(std::string_view key) {
  std::string token;
  for (const char c : key) {
    if (c == '~') {
      token += "~0";
    } else if (c == '/') {
      token += "~1";
    } else {
      token += c;
    }
  }
  return token;
}

Status check_keywords(const Json& schema, const std::string& path) {
  for (const auto& [key, value] : schema.items()) {
    const bool is_unsupported =
        std::find(kUnsupported.begin(), kUnsupported.end(), key) != kUnsupported.end();
    if (is_unsupported && !is_idle(key, value)) {
      return make_error(ErrorCode::kUnsupported, "{}/{}: this keyword is not supported", path,
                        pointer_token(key));
    }
    for (const auto& [known, type] : kRestrictions) {
      if (known != key || has_type(value, type)) continue;
      return make_error(ErrorCode::kInvalidArgument, "{}/{}: expected {}", path, key,
                        expected_text(type));
    }
  }
  return {};
}

bool restricts_besides(const Json& schema, std::initializer_list<std::string_view> keywords) {
  return std::any_of(schema.items().begin(), schema.items().end(), [&](const auto& item) {
    return is_restriction(item.key()) &&
           std::find(keywords.begin(), keywords.end(), item.key()) == keywords.end();
  });
}

bool restricts_by(const Json& schema, std::initializer_list<std::string_view> keywords) {
  return std::any_of(keywords.begin(), keywords.end(), [&](std::string_view keyword) {
    return find_member(schema, keyword) != nullptr;
  });
}

Result<std::optional<uint32_t>> count_member(const Json& schema, const std::string& key,
                                             const std::string& path) {
  const Json* value = find_member(schema, key);
  if (value == nullptr) return std::nullopt;
  const double count = value->get<double>();
  if (count < 0 || count != static_cast<double>(static_cast<int64_t>(std::min(count, 1e15)))) {
    return make_error(ErrorCode::kInvalidArgument, "{}/{}: expected a count", path, key);
  }
  if (count > kMaxRepeat) {
    return make_error(ErrorCode::kOutOfMemory, "{}/{}: at most {} can be kept to", path, key,
                      kMaxRepeat);
  }
  return static_cast<uint32_t>(count);
}

Status merge_schema(const Json& other, const std::string& path, Json* schema) {
  if ((schema->contains("additionalProperties") || other.contains("additionalProperties")) &&
      !(has_same_properties(*schema, other) && has_same_properties(other, *schema))) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: schemas with additionalProperties and other properties cannot be "
                      "combined by allOf",
                      path);
  }
  if (has_other_items(*schema, other)) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: schemas with items and different prefixItems cannot be combined by "
                      "allOf",
                      path);
  }
  US_TRY(check_keywords(other, path));
  fold_nullable(schema);
  Json folded = other;
  fold_nullable(&folded);
  for (const auto& [key, value] : folded.items()) {
    if (!is_restriction(key)) continue;
    if (schema->contains(key)) {
      US_TRY(merge_keyword(key, value, path, &(*schema)[key]));
    } else {
      (*schema)[key] = value;
    }
  }
  return {};
}

Result<const Json*> resolve_reference(const Json& root, const std::string& reference,
                                      const std::string& path) {
  if (reference != "#" && !reference.starts_with("#/")) {
    return make_error(ErrorCode::kUnsupported,
                      "{}/$ref: '{}' is not supported, only '#' and '#/...' of the same schema",
                      path, reference);
  }
  const Json* target = &root;
  std::string_view rest = std::string_view(reference).substr(1);
  while (!rest.empty()) {
    rest.remove_prefix(1);
    const size_t end = std::min(rest.find('/'), rest.size());
    target = find_child(*target, unescape_token(rest.substr(0, end)));
    if (target == nullptr) {
      return make_error(ErrorCode::kInvalidArgument, "{}/$ref: there is no '{}'", path, reference);
    }
    rest.remove_prefix(end);
  }
  return target;
}

}  // namespace ultraspeed::grammar
