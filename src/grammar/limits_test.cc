// What would take long, much memory or deep recursion is refused, soon.
#include <gtest/gtest.h>

#include <chrono>

#include "grammar/ebnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"
#include "grammar/test_support.h"
#include "support/scale.h"

namespace ultraspeed::grammar {
namespace {

// Far above the 50 ms of an idle machine, far below what a missing limit takes.
constexpr double kMaxSeconds = test::kIsSanitized ? 10 : 0.3;

std::string repeated(const std::string& text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

template <class Parse>
Result<Grammar> in_time(const std::string& what, Parse parse) {
  const auto begin = std::chrono::steady_clock::now();
  Result<Grammar> grammar = parse();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(elapsed.count(), kMaxSeconds) << what;
  return grammar;
}

void expect_error(const std::string& what, const Result<Grammar>& grammar,
                  const std::string& message) {
  ASSERT_FALSE(grammar.has_value()) << what;
  EXPECT_NE(grammar.error().message.find(message), std::string::npos)
      << what << ": " << grammar.error().message;
}

TEST(Limits, RegularExpressions) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"(a{1000}){1000}", "more than 131072 states"},
      {"((((a{9}){9}){9}){9}){9}{9}", "nothing to repeat"},
      {"((((((a{60}){60}){60}){60}){60}){60}){60}", "more than 131072 states"},
      {"(a|b)*a(a|b){20}", "steps to compile"},
      {"(a|b)*a(a|b){11}", ""},
      {repeated("(", 100'000), "more than 100 nested groups"},
      {repeated("(a|", 10'000) + "a" + repeated(")", 10'000), "more than 100 nested groups"},
      {repeated("a?", 20'000) + repeated("a", 20'000), "steps to compile"},
      {repeated("(a*)*", 5'000), ""},
      {"[^a]{65535}", "states"},
      {std::string(300 << 10, 'a'), "at most 262144 are read"},
      {std::string(200 << 10, 'a'), "more than 65536 expressions"}};
  for (const auto& [pattern, message] : cases) {
    const std::string what = pattern.substr(0, 40);
    const Result<Grammar> grammar = in_time(what, [&text = pattern] { return parse_regex(text); });
    if (message.empty()) {
      EXPECT_TRUE(grammar.has_value()) << what << ": " << grammar.error().message;
    } else {
      expect_error(what, grammar, message);
    }
  }
}

TEST(Limits, Grammars) {
  std::string chain, reversed, cycle, many, doubling;
  for (int i = 0; i < 4000; ++i) {
    chain += fmt::format("r{} ::= r{}\n", i, i + 1);
    reversed = fmt::format("r{} ::= r{}\n", i, i + 1) + reversed;
    if (i < 3000)
      many += fmt::format("r{} ::= r{}? r{}? \"a\"\n", i, (i * 7) % 3000, (i * 13) % 3000);
  }
  for (int i = 0; i < 40; ++i) doubling += fmt::format("r{} ::= r{} r{}\n", i, i + 1, i + 1);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"root ::= r0\n" + chain + "r4000 ::= \"a\"", ""},
      {"root ::= r0\n" + reversed + "r4000 ::= \"a\"", ""},
      {"root ::= r0\n" + chain + "r4000 ::= r0", "no finite text matches"},
      {"root ::= r0\n" + chain + "r4000 ::= r0 | \"a\"", "left recursion"},
      {"root ::= r0\n" + doubling + "r40 ::= \"a\"", ""},
      {"root ::= r0\n" + many, "left recursion"},
      {"root ::= " + repeated("(", 50'000), "more than 100 nested groups"},
      {"root ::= (\"a\"{1000}){1000}", "more than 131072 states"},
      {repeated("r ::= ", 5), "a second rule"}};
  for (const auto& [source, message] : cases) {
    const std::string what = source.substr(0, 60) + source.substr(source.size() - 20);
    const Result<Grammar> grammar = in_time(what, [&text = source] { return parse_ebnf(text); });
    if (message.empty()) {
      EXPECT_TRUE(grammar.has_value()) << what << ": " << grammar.error().message;
    } else {
      expect_error(what, grammar, message);
    }
  }
}

Json nested_arrays(size_t depth) {
  return Json::parse(repeated(R"({"type":"array","items":)", depth) + "{}" + repeated("}", depth));
}

TEST(Limits, DeepSchemas) {
  const Json schema = nested_arrays(10'000);  // not copied: nlohmann does that by recursion
  expect_error("10,000 levels", in_time("10,000 levels", [&] { return parse_json_schema(schema); }),
               "#: nested deeper than 64 levels");
}

TEST(Limits, LargeSchemas) {
  Json names = Json::array();
  for (int i = 0; i < 20'000; ++i) names.push_back(fmt::format("n{}", i));
  const Json many = {{"type", "object"}, {"required", names}};
  EXPECT_FALSE(in_time("required", [&] { return parse_json_schema(many); }).has_value());
  Json copies = many;
  copies["additionalProperties"] = {{"enum", Json(std::vector<int>(1000))}};
  expect_error("copies", in_time("copies", [&] { return parse_json_schema(copies); }),
               "#/required: combining schemas takes too much");
  const Json long_text = {{"description", std::string(300 << 10, 'a')}};
  expect_error("long", in_time("long", [&] { return parse_json_schema(long_text); }),
               "#: a schema of more than 262144 bytes");
}

TEST(Limits, Schemas) {
  Json wide = {{"type", "object"}, {"properties", Json::object()}};
  Json wider = wide;
  Json definitions = Json::object();
  for (int i = 0; i < 1000; ++i) {
    wider["properties"][fmt::format("property_{}", i)] = {{"type", "string"}};
    if (i < 150) wide["properties"][fmt::format("property_{}", i)] = {{"type", "string"}};
    definitions[fmt::format("d{}", i)] = {{"$ref", fmt::format("#/$defs/d{}", (i + 1) % 1000)}};
  }
  Json open = wide;
  open["additionalProperties"] = true;
  Json exploding = {{"$ref", "#/$defs/d0"}, {"$defs", Json::object()}};
  for (int i = 0; i < 60; ++i) {
    const Json next = {{"$ref", fmt::format("#/$defs/d{}", i + 1)}};
    exploding["$defs"][fmt::format("d{}", i)] = {{"type", "object"}, {"anyOf", {next, next}}};
  }
  exploding["$defs"]["d60"] = {{"required", {"a"}}};
  const std::vector<std::pair<Json, std::string>> cases = {
      {nested_arrays(20), ""},
      {{{"$ref", "#/$defs/d0"}, {"$defs", definitions}}, "#: no finite text matches"},
      {Json::parse(R"({"allOf":[{"$ref":"#"}],"type":"object"})"), "too many or too deep schemas"},
      {Json::parse(R"({"anyOf":[{"$ref":"#"},{"$ref":"#"}],"type":"object"})"),
       "too many or too deep"},
      {exploding, "more than 65536 expressions"},
      {wide, ""},
      {wider, "steps to compile"},
      {open, ""},
      {{{"type", "string"}, {"maxLength", 4000}}, ""},
      {{{"type", "string"}, {"minLength", 65535}}, "more than 131072 states"},
      {{{"type", "array"}, {"minItems", 60000}, {"items", wide}}, "more than 131072 states"},
      {{{"type", "array"}, {"maxItems", 1000}, {"items", {{"type", "array"}, {"maxItems", 1000}}}},
       ""}};
  for (const auto& [schema, message] : cases) {
    const std::string what = schema.dump().substr(0, 60);
    const Result<Grammar> grammar =
        in_time(what, [&from = schema] { return parse_json_schema(from); });
    if (message.empty()) {
      EXPECT_TRUE(grammar.has_value()) << what << ": " << grammar.error().message;
    } else {
      expect_error(what, grammar, message);
    }
  }
}

}  // namespace
}  // namespace ultraspeed::grammar
