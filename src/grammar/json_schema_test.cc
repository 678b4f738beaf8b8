// What schemas accept, what is refused with which words, and whether what masks allow is valid.
#include "grammar/json_schema.h"

#include <gtest/gtest.h>

#include "grammar/schema_validator.h"
#include "grammar/test_support.h"
#include "support/scale.h"

namespace ultraspeed::grammar {
namespace {

struct Case {
  std::string schema;
  std::vector<std::string> accepted;
  std::vector<std::string> refused;
};

void expect_cases(const std::vector<Case>& cases, JsonSpacing spacing) {
  for (const Case& example : cases) {
    const Grammar grammar =
        value_or_fail(parse_json_schema(Json::parse(example.schema), {spacing}));
    for (const std::string& text : example.accepted) {
      EXPECT_TRUE(matches(grammar, text)) << example.schema << " should accept " << text;
    }
    for (const std::string& text : example.refused) {
      EXPECT_FALSE(matches(grammar, text)) << example.schema << " should refuse " << text;
    }
  }
}

TEST(JsonSchema, Values) {
  expect_cases(
      {{R"({})",
        {"1", "\"a\"", "null", "[1,{\"a\":[]}]", "-0.5e+10", "true"},
        {"", "01", "a", "[1,]"}},
       {R"({"type":"string"})",
        {R"("")", R"("a\"\\\/\b\u00e9\uD83D\uDE00")", "\"\xE2\x82\xAC\""},
        {"\"\n\"", R"("\q")", R"("\ud800")", R"("\udc00\ud800")", "\"", "\"\xFF\"", R"("\u12g4")"}},
       {R"({"type":["integer","null"]})",
        {"0", "-12", "null", "1234567890123456789"},
        {"-", "1.0", "00"}},
       {R"({"type":"integer","nullable":true})", {"0", "null"}, {"true"}},
       {R"({"type":"boolean"})", {"true", "false"}, {"null", "tru"}},
       {R"({"enum":["a","b",1,null,{"a":[1,2]}]})",
        {"\"a\"", "1", "null", "{\"a\":[1,2]}"},
        {"\"c\"", "2"}},
       {R"({"enum":["a",1],"type":"string"})", {"\"a\""}, {"1"}},
       {R"({"const":"a\"\u00e9"})", {"\"a\\\"\xC3\xA9\""}, {"\"a\""}},
       {R"({"type":"string","minLength":1,"maxLength":2})",
        {"\"a\"", "\"\xE2\x82\xAC\xF0\x9F\x98\x80\"", R"("\n\uD83D\uDE00")"},
        {"\"\"", "\"abc\""}},
       {R"({"type":"string","minLength":3})", {"\"abc\"", "\"abcdef\""}, {"\"ab\""}},
       {R"({"type":"string","pattern":"^a[\"\\\\x]+$"})", {R"("a\"\\x")"}, {"\"a\"", "\"ba\""}},
       {R"({"type":"string","pattern":"b"})", {"\"abc\"", "\"b\""}, {"\"ac\""}},
       {R"({"type":"string","format":"date"})",
        {"\"2024-02-29\"", "\"2023-12-31\""},
        {"\"2023-02-29\"", "\"2023-04-31\"", "\"1900-02-29\"", "\"2023-1-1\""}},
       {R"({"type":"string","format":"date-time"})",
        {"\"2024-02-29T23:59:59.123Z\"", "\"2024-01-01T00:00:00+01:30\""},
        {"\"2024-01-01 00:00:00Z\"", "\"2024-01-01T24:00:00Z\""}},
       {R"({"type":"string","format":"uuid"})",
        {"\"123e4567-e89b-12d3-a456-426614174000\""},
        {"\"123e4567e89b12d3a456426614174000\""}},
       {R"({"type":"string","format":"email"})", {"\"a.b@c-d.org\""}, {"\"a@b\"", "\"@b.c\""}},
       {R"({"type":"string","format":"ipv4"})",
        {"\"192.168.0.255\""},
        {"\"256.1.1.1\"", "\"1.1.1\""}},
       {R"({"type":"string","format":"ipv6"})",
        {"\"2001:db8::1\"", "\"::\"", "\"1:2:3:4:5:6:7:8\""},
        {"\":\"", "\"1::2::3\"", "\"1:2::3:4:5:6:7:8\"", "\"1:2:3:4:5:6::7:8\""}},
       {R"({"type":["null","boolean","integer","number","string","array","object"],
            "maxLength":3})",
        {"\"abc\"", "1", "{}"},
        {"\"abcd\""}},
       {R"({"type":["string","string","string","string","string","string","string"]})",
        {"\"a\""},
        {"{}", "1"}},
       {R"({"type":"string","format":"uri"})",
        {"\"https://a.b/c?d#e\""},
        {"\"a b\"", "\"//a\"", "\"http://a:b\""}}},
      JsonSpacing::kCompact);
}

TEST(JsonSchema, Numbers) {
  for (const auto& [low, high] : std::vector<std::pair<int, int>>{
           {0, 0}, {0, 9}, {1, 100}, {-5, 5}, {-120, -7}, {99, 101}, {7, 1234}, {-1000, 1000}}) {
    const Json schema = {{"type", "integer"}, {"minimum", low}, {"maximum", high}};
    const Json open = {{"type", "integer"}, {"exclusiveMinimum", low}, {"exclusiveMaximum", high}};
    const Grammar closed_grammar = value_or_fail(parse_json_schema(schema));
    const Result<Grammar> open_grammar = parse_json_schema(open);
    for (int i = -1300; i <= 1300; ++i) {
      ASSERT_EQ(matches(closed_grammar, std::to_string(i)), i >= low && i <= high)
          << schema << " on " << i;
      ASSERT_EQ(open_grammar.has_value() && matches(*open_grammar, std::to_string(i)),
                i > low && i < high)
          << open << " on " << i;
    }
    EXPECT_FALSE(matches(closed_grammar, "-0"));
  }
  expect_cases(
      {{R"({"type":"integer","minimum":10})",
        {"10", "99", "100", "1234567890123456789"},
        {"9", "-10", "05"}},
       {R"({"type":"integer","maximum":-3})", {"-3", "-4", "-100"}, {"-2", "0", "3"}},
       {R"({"type":"integer","minimum":1.5,"maximum":3.5})", {"2", "3"}, {"1", "4"}},
       {R"({"type":"integer","multipleOf":1})", {"2"}, {"2.5"}},
       {R"({"type":"number","minimum":0.25,"maximum":1.5})",
        {"0.25", "0.250", "0.3", "1", "1.0", "1.5", "1.4999", "1.50"},
        {"0.2", "0.249", "1.51", "1.6", "2", "0", "-0.5", "1e0"}},
       {R"({"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1})",
        {"0.5", "0.01", "0.999"},
        {"0", "0.0", "1", "1.0", "-0.5"}},
       {R"({"type":"number","minimum":-1.5,"exclusiveMaximum":12.75})",
        {"-1.5", "-1", "0", "-0.25", "12.7", "12.749", "9.99"},
        {"-1.51", "12.75", "12.8", "13", "-2"}},
       {R"({"type":"number","minimum":3})", {"3", "3.5", "1000"}, {"2.99", "-3"}},
       {R"({"type":"number","minimum":0.1,"maximum":0.1})", {"0.1", "0.10"}, {"0.11", "0"}},
       {R"({"minimum":5,"exclusiveMinimum":5})", {"5.1", "6"}, {"5", "5.0"}}},
      JsonSpacing::kCompact);
}

TEST(JsonSchema, Objects) {
  expect_cases(
      {{R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"},
            "c":{"type":"null"}},
           "required":["b"]})",
        {R"({"b":null})", R"({"a":null,"b":null})", R"({"a":null,"b":null,"c":null})",
         R"({"b":null,"c":null})"},
        {"{}", R"({"a":null})", R"({"b":null,"a":null})", R"({"b":null,"d":null})",
         R"({"b":null,})"}},
       {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}}})",
        {"{}", R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
        {"{,}", R"({"a":null"b":null})"}},
       {R"({"type":"object"})", {"{}", R"({"x":[1],"y":{}})"}, {"[]", "1"}},
       {R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"a":1})"}},
       {R"({"type":"object","properties":{},"additionalProperties":{"type":"integer"}})",
        {"{}", R"({"a":1,"b":2})"},
        {R"({"a":"x"})"}},
       {R"({"type":"object","properties":{"ab":{"type":"null"}},
            "additionalProperties":{"type":"integer"}})",
        {R"({"ab":null,"a":1,"abc":2,"":3,"x\n":4})", R"({"b":1})"},
        {R"({"ab":1})", R"({"x":null})", R"({"\u0061b":1})"}},
       {R"({"type":"object","properties":{"é\n":{"type":"null"}},
            "additionalProperties":{"type":"integer"}})",
        {"{\"\xC3\xA9\\n\":null,\"\xC3\xA9\":1,\"\xC3\xA8\":1}"},
        {"{\"\xC3\xA9\\n\":1}"}},
       {R"({"type":"object","required":["x"],"additionalProperties":{"type":"integer"}})",
        {R"({"x":1})", R"({"x":1,"y":2})"},
        {"{}", R"({"y":1})"}},
       {R"({"properties":{"a":{"type":"null"},"b":false},"required":["a"]})",
        {R"({"a":null})"},
        {R"({"a":null,"b":1})"}},
       {R"({"type":"object","properties":{"a\"b":{"type":"null"}}})", {R"({"a\"b":null})"}, {}}},
      JsonSpacing::kCompact);
}

TEST(JsonSchema, Arrays) {
  expect_cases({{R"({"type":"array","items":{"type":"integer"}})",
                 {"[]", "[1]", "[1,2,3]"},
                 {"[,]", "[1,]", "[\"a\"]"}},
                {R"({"type":"array","items":{"type":"null"},"minItems":1,"maxItems":3})",
                 {"[null]", "[null,null,null]"},
                 {"[]", "[null,null,null,null]"}},
                {R"({"type":"array","minItems":2})", {"[1,\"a\"]", "[1,2,3]"}, {"[1]"}},
                {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
                {R"({"type":"array","prefixItems":[{"type":"null"},{"type":"boolean"}]})",
                 {"[]", "[null]", "[null,true]"},
                 {"[true]", "[null,true,1]"}},
                {R"({"type":"array","prefixItems":[{"type":"null"}],"items":{"type":"boolean"},
            "minItems":2})",
                 {"[null,true]", "[null,true,false]"},
                 {"[null]", "[]", "[true]"}},
                {R"({"type":"array","prefixItems":[{"type":"null"},{"type":"null"}],"maxItems":1})",
                 {"[]", "[null]"},
                 {"[null,null]"}}},
               JsonSpacing::kCompact);
}

TEST(JsonSchema, Combinations) {
  expect_cases(
      {{R"({"anyOf":[{"type":"integer"},{"type":"string"}]})", {"1", "\"a\""}, {"true"}},
       {R"({"oneOf":[{"const":"a"},{"const":"ab"}]})", {"\"a\"", "\"ab\""}, {"\"b\""}},
       {R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},
            "anyOf":[{"required":["a"]},{"required":["b"]}]})",
        {R"({"a":null})", R"({"b":null})", R"({"a":null,"b":null})"},
        {"{}"}},
       {R"({"allOf":[{"type":"object","properties":{"a":{"type":"null"}},"required":["a"]},
            {"properties":{"b":{"type":"null"}}}]})",
        {R"({"a":null})", R"({"a":null,"b":null})"},
        {"{}", R"({"b":null})"}},
       {R"({"allOf":[{"type":"integer","minimum":3},{"maximum":5},{"type":"number"}]})",
        {"3", "5"},
        {"2", "6", "3.5"}},
       {R"({"$ref":"#/$defs/n","maximum":5,"$defs":{"n":{"type":"integer","minimum":3}}})",
        {"3", "5"},
        {"6"}},
       {R"({"allOf":[{"type":"object","properties":{"a":{"type":"number"}}},
            {"properties":{"a":{"minimum":0,"type":"integer"}}}]})",
        {R"({"a":0})"},
        {R"({"a":0.5})", R"({"a":-1})"}},
       {R"({"allOf":[{"type":"string","nullable":true},{"type":"string"}]})", {"\"a\""}, {"null"}},
       {R"({"allOf":[{"type":"string","nullable":true},{"type":["null","integer"]}]})",
        {"null"},
        {"\"a\"", "1"}},
       {R"({"allOf":[{"prefixItems":[{"type":"null"}],"items":{"type":"integer"}},
            {"minItems":2}]})",
        {"[null,1]"},
        {"[null]", "[1,1]"}},
       {R"({"anyOf":[false,{"type":"null"}]})", {"null"}, {"1"}}},
      JsonSpacing::kCompact);
}

TEST(JsonSchema, References) {
  expect_cases(
      {{R"({"$ref":"#/$defs/a~1b","$defs":{"a/b":{"type":"array",
            "items":{"$ref":"#/$defs/a~1b"}}}})",
        {"[]", "[[],[[]]]"},
        {"[1]"}},
       {R"({"type":"object","properties":{"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},
            "required":["next"]})",
        {R"({"next":null})", R"({"next":{"next":null}})"},
        {"{}"}},
       {R"({"$defs":{"a":{"anyOf":[{"const":1},{"type":"array","items":{"$ref":"#/$defs/b"}}]},
            "b":{"type":"object","properties":{"a":{"$ref":"#/%24defs/a"}}}},"$ref":"#/$defs/a"})",
        {"1", R"([{"a":[{"a":1}]}])"},
        {"[1]"}}},
      JsonSpacing::kCompact);
}

TEST(JsonSchema, Spacing) {
  const char* schema = R"({"type":"object","properties":{"a":{"type":"array"}}})";
  expect_cases({{schema,
                 {"{\"a\":[1,2]}", "{ \"a\" : [ 1 ,\n  2 ] }", "{\r\n\t\"a\": []\n}", "{ }"},
                 {" {}", "{} ", "{\"a\": [1,  2]}", "{\n\n}",
                  "{\"a\":[1,\n" + std::string(33, ' ') + "2]}"}}},
               JsonSpacing::kFlexible);
  expect_cases({{schema, {"{\"a\":[1,2]}"}, {"{\"a\": [1,2]}", "{ }"}}}, JsonSpacing::kCompact);
}

TEST(JsonSchema, AnyObject) {
  const Grammar grammar = value_or_fail(json_object_grammar());
  EXPECT_TRUE(matches(grammar, "{\"a\": [1, {}]}"));
  EXPECT_FALSE(matches(grammar, "[1]"));
}

TEST(JsonSchema, ErrorsNameThePointer) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"properties":{"a/b":{"not":{}}}})",
       "#/properties/a~1b/not: this keyword is not supported"},
      {R"({"type":"array","items":{"uniqueItems":true}})", "#/items/uniqueItems: this keyword"},
      {R"({"type":"text"})", "#/type: there is no type \"text\""},
      {R"({"type":5})", "#/type: expected a string or an array"},
      {R"({"items":5})", "#/items: expected an object or a boolean"},
      {R"({"anyOf":[{"type":"string","format":"color"}]})",
       "#/anyOf/0/format: \"color\" is not supported"},
      {R"({"type":"string","pattern":"(a)\\1"})", "#/pattern, byte 4: back references"},
      {R"({"type":"string","pattern":"a","minLength":2})",
       "#: pattern, format and lengths cannot be combined"},
      {R"({"type":"number","multipleOf":0.5})", "#/multipleOf: this keyword is not supported"},
      {R"({"minLength":-1})", "#/minLength: expected a count"},
      {R"({"minLength":1e9})", "#/minLength: at most 65535 can be kept to"},
      {R"({"required":["a"],"properties":{}})", "#/required: \"a\" is none of the properties"},
      {R"({"$ref":"#/$defs/x"})", "#/$ref: there is no '#/$defs/x'"},
      {R"({"$ref":"http://a/b"})", "#/$ref: 'http://a/b' is not supported"},
      {R"({"$ref":"#"})", "#: no finite text matches"},
      {R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})", "#: left recursion"},
      {R"({"allOf":[{"$ref":"#/allOf/0"}]})", "references in a circle"},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
       "#: no finite text matches"},
      {R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})", "schemas whose 'pattern' differs"},
      {R"({"allOf":[{"properties":{"a":{}},"additionalProperties":false},
            {"properties":{"b":{}}}]})",
       "schemas with additionalProperties and other properties"},
      {R"({"allOf":[{"prefixItems":[{"type":"string"}]},{"items":{"type":"integer"}}]})",
       "schemas with items and different prefixItems"},
      {R"({"type":"number","minimum":1e-20})", "#/minimum: a bound of more than"},
      {R"({"enum":["a"],"minLength":2})", "#: enum and const can be combined with type alone"},
      {R"({"type":"integer","minimum":1e30})", "#/minimum: a bound of more than 19 digits"},
      {"false", "#: no finite text matches"},
      {"3", "#: expected an object or a boolean"}};
  for (const auto& [schema, message] : cases) {
    const Result<Grammar> grammar = parse_json_schema(Json::parse(schema));
    ASSERT_FALSE(grammar.has_value()) << schema;
    EXPECT_NE(grammar.error().message.find(message), std::string::npos)
        << schema << ": " << grammar.error().message;
  }
}

TEST(JsonSchema, AnnotationsAreIgnored) {
  EXPECT_TRUE(matches(value_or_fail(parse_json_schema(Json::parse(
                          R"({"$schema":"x","title":"t","description":"d","default":1,
                              "examples":[1],"deprecated":true,"type":"null","x-more":{}})"))),
                      "null"));
}

// Whatever random tokens that masks allow make up is JSON, and valid.
TEST(JsonSchema, RandomWalksAreValid) {
  const std::vector<std::string> schemas = {
      R"({})",
      R"({"type":"object"})",
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer",
            "minimum":0,
          "maximum":150},"tags":{"type":"array","items":{"type":"string","maxLength":5},
            "maxItems":3}},
          "required":["name","age"],"additionalProperties":false})",
      R"({"type":"object","properties":{"a":{"type":"number","exclusiveMinimum":-2.5,
            "maximum":17.125}},
          "required":["a"],"additionalProperties":{"type":"boolean"}})",
      R"({"$defs":{"node":{"type":"object","properties":{"value":{"type":["integer","null"]},
          "children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["value",
            "children"]}},
          "$ref":"#/$defs/node"})",
      R"({"type":"array","prefixItems":[{"enum":["a","b"]},{"const":{"x":[1,2.5,"\n"]}}],
          "items":{"anyOf":[{"type":"integer"},{"type":"string","minLength":2}]},"minItems":3})",
      R"({"type":"object","properties":{"when":{"type":"string","format":"date-time"},
          "day":{"format":"date","type":"string"},"at":{"type":"string","format":"time"},
          "id":{"type":"string","format":"uuid"},"mail":{"type":"string","format":"email"},
          "ip":{"type":"string","format":"ipv4"}},"required":["when","day","at","id","mail",
            "ip"]})",
      R"({"type":"array","items":{"type":"string","pattern":"^[a-z\"\\\\]{2,4}(-\\d+)?$"}})",
      R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer","minimum":3}},
            "required":["a"]},
          {"properties":{"b":{"type":"string","nullable":true}}}]})",
      R"({"type":"object","properties":{"x":{"oneOf":[{"type":"object","properties":
          {"kind":{"const":"circle"},"r":{"type":"number","minimum":0}},"required":["kind","r"]},
          {"type":"object","properties":{"kind":{"const":"square"}},"required":["kind"]}]}},
            "required":["x"]})"};
  std::mt19937 random(3);
  for (const std::string& source : schemas) {
    const Json schema = Json::parse(source);
    for (const JsonSpacing spacing : {JsonSpacing::kFlexible, JsonSpacing::kCompact}) {
      Machine machine(value_or_fail(parse_json_schema(schema, {spacing})),
                      test_vocabulary(json_tokens()));
      for (int trial = 0; trial < test::scaled(30); ++trial) {
        const std::string text = random_walk(&machine, random() % 60, &random);
        const Json value = Json::parse(text, nullptr, false);
        ASSERT_FALSE(value.is_discarded()) << source << "\n" << text;
        ASSERT_TRUE(is_valid(schema, value, schema)) << source << "\n" << text;
      }
    }
  }
}

}  // namespace
}  // namespace ultraspeed::grammar
