// Which grammar a request names, how they are compiled once, and what is wrong with those that
// cannot be.
#include "server/grammar_request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "server/grammar_cache.h"
#include "server/test_model.h"

namespace ultraspeed::server {
namespace {

using Kind = GrammarSource::Kind;

ApiResult<std::optional<GrammarSource>> read(const std::string& fields) {
  const Json json = Json::parse("{" + fields + "}");
  return read_grammar(Fields(json));
}

TEST(GrammarRequest, EveryFieldNamesItsGrammar) {
  struct Case {
    std::string fields;
    Kind kind;
    std::string text;
    std::string param;
  };
  const std::vector<Case> cases = {
      {R"("response_format":{"type":"json_object"})", Kind::kJsonObject, "", "response_format"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,
          "schema":{"type":"null"}}})",
       Kind::kJsonSchema, R"({"type":"null"})", "response_format.json_schema.schema"},
      {R"("structured_outputs":{"json":{"b":1,"a":2}})", Kind::kJsonSchema, R"({"b":1,"a":2})",
       "structured_outputs.json"},
      {R"("structured_outputs":{"json":" {\"type\": \"null\"} "})", Kind::kJsonSchema,
       R"({"type":"null"})", "structured_outputs.json"},
      {R"("structured_outputs":{"json_object":true})", Kind::kJsonObject, "",
       "structured_outputs.json_object"},
      {R"("structured_outputs":{"regex":"a+"})", Kind::kRegex, "a+", "structured_outputs.regex"},
      {R"("structured_outputs":{"choice":["a", "b"]})", Kind::kChoice, R"(["a","b"])",
       "structured_outputs.choice"},
      {R"("structured_outputs":{"grammar":"root ::= \"a\""})", Kind::kEbnf, R"(root ::= "a")",
       "structured_outputs.grammar"},
      {R"("guided_json":{"type":"null"})", Kind::kJsonSchema, R"({"type":"null"})", "guided_json"},
      {R"("guided_regex":"[ab]")", Kind::kRegex, "[ab]", "guided_regex"},
      {R"("guided_choice":["a"])", Kind::kChoice, R"(["a"])", "guided_choice"},
      {R"("guided_grammar":"root ::= [a]","response_format":{"type":"text"})", Kind::kEbnf,
       "root ::= [a]", "guided_grammar"},
  };
  for (const Case& wanted : cases) {
    const auto source = read(wanted.fields);
    ASSERT_TRUE(source && *source) << wanted.fields;
    EXPECT_EQ((*source)->kind, wanted.kind) << wanted.fields;
    EXPECT_EQ((*source)->text, wanted.text);
    EXPECT_EQ((*source)->param, wanted.param);
  }
  EXPECT_TRUE(
      (*read(R"("structured_outputs":{"json":{},"disable_any_whitespace":true})"))->is_compact);
  EXPECT_FALSE((*read(R"("structured_outputs":{"json":{}})"))->is_compact);
  for (const char* fields : {"", R"("response_format":null)", R"("structured_outputs":{})",
                             R"("response_format":{"type":"text"},"guided_json":null)",
                             R"("structured_outputs":{"json_object":false})"}) {
    const auto source = read(fields);
    EXPECT_TRUE(source && !*source) << fields;
  }
}

TEST(GrammarRequest, ErrorsNameTheField) {
  const std::vector<std::vector<std::string>> cases = {
      {R"("response_format":"json_object")", "response_format", "must be an object"},
      {R"("response_format":{})", "response_format.type", "it must be 'text', 'json_object' or"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema.schema",
       "is missing"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"x"}})",
       "response_format.json_schema.schema", "is missing"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":5}})",
       "response_format.json_schema.schema", "must be a JSON schema or one in a string, not an "},
      {R"("guided_json":"{")", "guided_json", "'guided_json' is not valid JSON: parse error at"},
      {R"("guided_json":true)", "guided_json", "not a boolean"},
      {R"("guided_regex":["a"])", "guided_regex", "must be a string"},
      {R"("guided_choice":[])", "guided_choice", "must have one string or more"},
      {R"("guided_choice":["a",1])", "guided_choice", "must have one string or more"},
      {R"("structured_outputs":{"structural_tag":"x"})", "structured_outputs.structural_tag",
       "is not supported"},
      {R"("structured_outputs":{"regex":"a","grammar":"b"})", "structured_outputs.grammar",
       "'structured_outputs.regex' and 'structured_outputs.grammar' both say"},
      {R"("response_format":{"type":"json_object"},"guided_regex":"a")", "guided_regex",
       "both say"},
  };
  for (const auto& wanted : cases) {
    const auto source = read(wanted[0]);
    ASSERT_FALSE(source) << wanted[0];
    EXPECT_EQ(source.error().status, 400u);
    EXPECT_EQ(source.error().param, wanted[1]);
    EXPECT_NE(source.error().message.find(wanted[2]), std::string::npos) << source.error().message;
  }
}

TEST(GrammarCache, CompilesAGrammarOnce) {
  GrammarCache cache(test_tokenizer(), std::vector<int32_t>{kTestStopId, -1, 1 << 20});
  const GrammarSource regex{Kind::kRegex, "a+", ""};
  const auto first = cache.get(regex);
  EXPECT_NE(*cache.get({Kind::kJsonSchema, "{}", ""}),
            *cache.get({Kind::kJsonSchema, "{}", "", true}));
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(*cache.get(regex), *first);
  EXPECT_NE(*cache.get(regex, "another client"), *first);
  EXPECT_NE(*cache.get({Kind::kEbnf, "root ::= \"a+\"", ""}), *first);
  EXPECT_TRUE(cache.get({Kind::kJsonObject, "", ""}));
  EXPECT_FALSE(cache.get({Kind::kRegex, "(", ""}));
  EXPECT_EQ(cache.num_grammars(), 6u);
  for (size_t i = 0; i < GrammarCache::kMaxGrammars; ++i) {
    ASSERT_TRUE(cache.get(regex));  // stays: it is asked for again and again
    ASSERT_TRUE(cache.get({Kind::kRegex, fmt::format("b{{{}}}", i + 1), ""}));
  }
  EXPECT_EQ(cache.num_grammars(), GrammarCache::kMaxGrammars);
  EXPECT_EQ(*cache.get(regex), *first);
}

// What would take for ever is refused. Far above the 50 ms of an idle machine.
constexpr double kMaxSeconds = 5;

TEST(GrammarCache, RefusesWhatExplodesSoon) {
  std::string deep = R"({"type":"null"})";
  for (int i = 0; i < 60; ++i) deep = R"({"type":"array","items":)" + deep + "}";
  std::string many = R"({"enum":[)";
  for (int i = 0; i < 60'000; ++i) many += fmt::format("{},", i);
  const std::vector<GrammarSource> sources = {
      {Kind::kJsonSchema, R"({"$ref":"#"})", ""},
      {Kind::kJsonSchema, R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},
                              "$ref":"#/$defs/a"})",
       ""},
      {Kind::kJsonSchema, R"({"type":"string","pattern":"(a|b)*a(a|b){20}"})", ""},
      {Kind::kJsonSchema, R"({"type":"array","items":{"type":"array","maxItems":3000,"minItems":
          3000,"items":{"type":"string","maxLength":9000}},"maxItems":3000})",
       ""},
      {Kind::kJsonSchema, many + "0]}", ""},
      {Kind::kRegex, "((((((a{60}){60}){60}){60}){60}){60}){60}", ""},
      {Kind::kRegex, std::string(100'000, '('), ""},
      {Kind::kEbnf, "root ::= root \"a\" | \"b\"", ""},
      {Kind::kChoice, Json(std::vector<std::string>(70'000, "a")).dump(), ""},
  };
  GrammarCache cache(test_tokenizer(), {});
  for (const GrammarSource& source : sources) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_FALSE(cache.get(source)) << source.text.substr(0, 60);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(elapsed.count(), kMaxSeconds) << source.text.substr(0, 60);
  }
  EXPECT_TRUE(cache.get({Kind::kJsonSchema, deep, ""}));
}

}  // namespace
}  // namespace ultraspeed::server
