#include "grammar/json_schema_types.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "grammar/json_schema_keywords.h"
#include "grammar/limits.h"

namespace ultraspeed::grammar {
namespace {

constexpr uint32_t kMaxSchemaDepth = 64;

using Types = std::vector<std::string>;

constexpr std::array<std::string_view, 7> kTypeNames = {"null",   "boolean", "integer", "number",
                                                        "string", "array",   "object"};

// About as much as its text; no recursion, and no further than the limit.
bool is_too_large(const Json& json) {
  std::vector<const Json*> pending = {&json};
  size_t num_bytes = 0;
  while (!pending.empty() && num_bytes <= kMaxSourceBytes) {
    const Json& value = *pending.back();
    pending.pop_back();
    num_bytes += 2;  // of a digit and a comma
    if (value.is_string()) num_bytes += value.get_ref<const std::string&>().size();
    if (value.is_array()) {
      num_bytes += value.size();
      for (const Json& child : value) pending.push_back(&child);
    } else if (value.is_object()) {
      for (const auto& [name, child] : value.get_ref<const Json::object_t&>()) {
        num_bytes += name.size() + 3;
        pending.push_back(&child);
      }
    }
  }
  return num_bytes > kMaxSourceBytes;
}

Types implied_types(const Json& schema) {
  static const std::vector<std::pair<std::string, std::vector<std::string>>> kImplied = {
      {"object", {"properties", "required", "additionalProperties"}},
      {"array", {"items", "prefixItems", "minItems", "maxItems"}},
      {"string", {"minLength", "maxLength", "pattern", "format"}},
      {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}}};
  Types types;
  for (const auto& [type, keywords] : kImplied) {
    if (std::any_of(keywords.begin(), keywords.end(),
                    [&](const std::string& keyword) { return schema.contains(keyword); })) {
      types.push_back(type);
    }
  }
  return types.empty() ? Types(kTypeNames.begin(), kTypeNames.end()) : types;
}

}  // namespace

std::optional<size_t> count_values(const Json& json) {
  std::vector<std::pair<const Json*, uint32_t>> pending = {{&json, 0}};
  size_t count = 0;
  while (!pending.empty()) {
    const auto [value, depth] = pending.back();
    pending.pop_back();
    ++count;
    if (!value->is_structured()) continue;
    if (depth == kMaxSchemaDepth) return std::nullopt;
    for (const Json& child : *value) pending.emplace_back(&child, depth + 1);
  }
  return count;
}

Status check_schema_size(const Json& schema) {
  if (!count_values(schema)) {
    return make_error(ErrorCode::kOutOfMemory, "#: nested deeper than {} levels", kMaxSchemaDepth);
  }
  if (is_too_large(schema)) {
    return make_error(ErrorCode::kOutOfMemory, "#: a schema of more than {} bytes",
                      kMaxSourceBytes);
  }
  return {};
}

bool is_of_type(const Json& value, std::string_view type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  return value.is_number_integer() ||
         (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>());
}

Result<std::vector<std::string>> schema_types(const Json& schema, const std::string& path) {
  Types types;
  if (const Json* type = find_member(schema, "type")) {
    for (const Json& name : type->is_array() ? *type : Json::array({*type})) {
      if (!name.is_string() || std::find(kTypeNames.begin(), kTypeNames.end(),
                                         name.get<std::string>()) == kTypeNames.end()) {
        return make_error(ErrorCode::kInvalidArgument, "{}/type: there is no type {}", path,
                          name.dump());
      }
      const auto known = name.get<std::string>();
      if (std::find(types.begin(), types.end(), known) == types.end()) types.push_back(known);
    }
  } else {
    types = implied_types(schema);
  }
  const bool has_null = std::find(types.begin(), types.end(), "null") != types.end();
  if (!has_null && schema.value("nullable", false)) types.emplace_back("null");
  return types;
}

}  // namespace ultraspeed::grammar
