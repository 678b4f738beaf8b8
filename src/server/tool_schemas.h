// What the tools of a request take, as far as it decides how the text of a call is read: the names
// of the tools, and the JSON types that their parameters may have.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "server/json_fields.h"

namespace ultraspeed::server {

// A set of JSON types, bit by bit; the empty set stands for a parameter of unknown type.
using JsonTypes = uint32_t;
inline constexpr JsonTypes kAnyType = 0;
inline constexpr JsonTypes kString = 1 << 0;
inline constexpr JsonTypes kInteger = 1 << 1;
inline constexpr JsonTypes kNumber = 1 << 2;
inline constexpr JsonTypes kBoolean = 1 << 3;
inline constexpr JsonTypes kObject = 1 << 4;
inline constexpr JsonTypes kArray = 1 << 5;
inline constexpr JsonTypes kNull = 1 << 6;

// The types that a value of the schema may have, which is a part of `root`.
JsonTypes types_of_schema(const Json& schema, const Json& root);
Json type_names(JsonTypes types);  // as a schema's "type" lists them

class ToolSchemas {
 public:
  ToolSchemas() = default;  // no tools
  // `tools` as requests have them, [{"type": "function", "function": {"name": ...}}], or null.
  explicit ToolSchemas(const Json& tools);

  bool empty() const { return tools_.empty(); }
  bool has_tool(std::string_view name) const { return tools_.contains(name); }
  JsonTypes parameter_types(std::string_view tool, std::string_view parameter) const;

 private:
  using Parameters = std::map<std::string, JsonTypes, std::less<>>;
  std::map<std::string, Parameters, std::less<>> tools_;
};

// Appends the JSON of a parameter's value that was written as plain text. JSON of one of the types
// stays as it is written (of any type, where none is known), but a quoted string where strings may
// come: its quotes belong to it. What is no such JSON is a string.
void append_parameter_value(std::string& out, std::string_view text, JsonTypes types);

}  // namespace ultraspeed::server
