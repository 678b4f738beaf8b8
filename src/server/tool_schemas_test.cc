// The types that schemas declare, and values of them.
#include "server/tool_schemas.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace ultraspeed::server {
namespace {

TEST(ToolSchemasTest, ReadsTheDeclaredTypes) {
  const std::vector<std::pair<std::string, JsonTypes>> cases = {
      {R"({"type":"string"})", kString},
      {R"({"type":["integer","null"]})", kInteger | kNull},
      {R"({"type":"integer","enum":["a"]})", kInteger},
      {R"({"anyOf":[{"type":"string"},{"type":"array"}]})", kString | kArray},
      {R"({"oneOf":[{"type":"object"},{"$ref":"#/x"}]})", kAnyType},
      {R"({"anyOf":7})", kAnyType},
      {R"({"enum":["a",1,null]})", kString | kInteger | kNumber | kNull},
      {R"({"const":true})", kBoolean},
      {R"({"type":"file"})", kAnyType},
      {R"({"type":{}})", kAnyType},
      {R"({"$ref":"#/x"})", kAnyType},
      {"true", kAnyType},
      {R"({"$ref":"#/$defs/size"})", kInteger},
      {R"({"$ref":"#/$defs/loop"})", kAnyType},
      {R"({"allOf":[{"$ref":"#/$defs/size"},{"description":"d"}]})", kInteger},
      {R"({"allOf":[{"type":["string","null"]},{"enum":["a"]}]})", kString},
      {R"({"type":"string","nullable":true})", kString | kNull},
      {R"({"pattern":"a","minItems":1})", kString | kArray},
  };
  for (const auto& [schema, types] : cases) {
    const ToolSchemas tools(Json::parse(fmt::format(
        R"([{{"function":{{"name":"f","parameters":{{"properties":{{"p":{}}},
        "$defs":{{"size":{{"type":"integer"}},"loop":{{"$ref":"#/$defs/loop"}}}}}}}}}}])",
        schema)));
    EXPECT_EQ(tools.parameter_types("f", "p"), types) << schema;
    EXPECT_EQ(tools.parameter_types("f", "q"), kAnyType);
  }
}

TEST(ToolSchemasTest, TakesToolsWithoutSchemas) {
  const ToolSchemas tools(Json::parse(
      R"([{"function":{"name":"a"}},{"function":{"name":"b","parameters":{"properties":[]}}}])"));
  EXPECT_TRUE(tools.has_tool("a") && tools.has_tool("b"));
  EXPECT_FALSE(tools.has_tool("c") || tools.empty());
  EXPECT_EQ(tools.parameter_types("c", "p"), kAnyType);
  EXPECT_TRUE(ToolSchemas(Json()).empty());
}

TEST(ToolSchemasTest, ValuesKeepTheirJson) {
  struct Case {
    const char* text;
    JsonTypes types;
    const char* json;
  };
  const std::vector<Case> cases = {
      {" 12 ", kInteger, "12"},           {"1.50", kNumber, "1.50"},
      {"1.5", kInteger, "1.5"},           {"1.5", kInteger | kString, R"("1.5")"},
      {"1.5", kNumber | kString, "1.5"},  {"1e999", kNumber, R"("1e999")"},
      {"NaN", kNumber, R"("NaN")"},       {"true", kBoolean | kNull, "true"},
      {"false", kInteger, R"("false")"},  {"False", kBoolean, "false"},
      {"None", kNull | kString, "null"},  {"None", kString, R"("None")"},
      {"null", kString | kNull, "null"},  {"5", kString | kInteger, "5"},
      {"5", kString | kNull, R"("5")"},   {R"("a")", kString | kNull, R"("\"a\"")"},
      {R"("a")", kAnyType, R"("a")"},     {"[1, 2]", kArray, "[1, 2]"},
      {"[1, 2]", kObject, R"("[1, 2]")"}, {"{'a': 1}", kObject, R"("{'a': 1}")"},
      {" a ", kAnyType, R"(" a ")"},      {"", kAnyType, R"("")"},
  };
  for (const Case& value : cases) {
    std::string out;
    append_parameter_value(out, value.text, value.types);
    EXPECT_EQ(out, value.json) << value.text;
  }
  std::string out;
  append_parameter_value(out, std::string_view("{}\0", 3), kAnyType);
  EXPECT_EQ(out, R"("{}\u0000")");
}

}  // namespace
}  // namespace ultraspeed::server
