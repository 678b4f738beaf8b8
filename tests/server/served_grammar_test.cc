// Answers of the bundled model that must keep to a grammar, over HTTP: they do, and no drafter
// changes them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "grammar/schema_validator.h"
#include "served.h"
#include "server/grammar_constraint.h"
#include "support/scale.h"

namespace ultraspeed::server {
namespace {

using engine::DrafterKind;

constexpr const char* kRecord = R"({"type":"object","properties":{
    "name":{"type":"string","maxLength":12},"kind":{"enum":["animal","plant","stone"]},
    "legs":{"type":"integer","minimum":0,"maximum":8},"is_wild":{"type":"boolean"},
    "tags":{"type":"array","items":{"type":"string","maxLength":6},"maxItems":2}},
    "required":["name","kind","legs","is_wild","tags"],"additionalProperties":false})";
constexpr const char* kTree = R"({"$defs":{"node":{"type":"object","properties":{
    "value":{"type":"integer","minimum":1,"maximum":9},"next":{"anyOf":[{"type":"null"},
    {"$ref":"#/$defs/node"}]}},"required":["value","next"]}},"$ref":"#/$defs/node"})";
constexpr const char* kPattern = R"({"type":"array","items":{"type":"string",
    "pattern":"^[A-Z]{2}-[0-9]{3}$"},"minItems":2,"maxItems":3})";

Json chat_body(uint64_t seed) {
  return {{"model", "tiny"},
          {"messages", {{{"role", "user"}, {"content", "Describe a cat as JSON."}}}},
          {"thinking", {{"type", "disabled"}}},
          {"max_tokens", 400},
          {"temperature", seed == 0 ? 0 : 0.8},
          {"seed", seed}};
}

Json schema_format(const char* schema) {
  return {{"type", "json_schema"},
          {"json_schema", {{"name", "x"}, {"strict", true}, {"schema", Json::parse(schema)}}}};
}

TEST(ServedGrammar, AnswersSatisfyTheSchemaAndNoDrafterChangesThem) {
  const Served plain({});
  const Served suffix({.drafter = {DrafterKind::kSuffix, 1}});
  const Served dflash(engine::bundled_setup(16, 1));
  size_t num_complete = 0;
  for (const char* schema : {kRecord, kTree, kPattern}) {
    for (const uint64_t seed : {0u, 7u, 8u}) {
      if (test::kIsSanitized && seed != 8) continue;  // the slow model is slower there
      Json body = chat_body(seed);
      body["response_format"] = schema_format(schema);
      const Json choice = plain.ask("/v1/chat/completions", body);
      const auto content = choice["message"]["content"].get<std::string>();
      EXPECT_EQ(suffix.ask("/v1/chat/completions", body), choice);
      EXPECT_EQ(dflash.ask("/v1/chat/completions", body), choice);
      if (choice["finish_reason"] == "length") continue;
      ++num_complete;
      EXPECT_EQ(choice["finish_reason"], "stop");
      const Json value = Json::parse(content, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << content;
      const Json root = Json::parse(schema);
      EXPECT_TRUE(grammar::is_valid(root, value, root)) << content;
    }
  }
  EXPECT_GE(num_complete, test::kIsSanitized ? 2u : 6u);
}

// The engine alone: what must come is drafted without a drafter, and forks have a matcher each.
TEST(ServedGrammar, WhatMustComeIsDraftedAndForksKeepToTheGrammar) {
  GrammarCache cache(Served::tokenizer(), std::vector<int32_t>{2, 0});
  const auto compiled = cache.get({GrammarSource::Kind::kJsonSchema, kRecord, "", true});
  ASSERT_TRUE(compiled) << compiled.error().message;
  const GrammarConstraint constraint(*compiled, Served::tokenizer(), Thinking::kNone);
  engine::Request request = engine::make_requests({0}, 200)[0];
  request.params.stop_ids = {2, 0};
  request.params.sampling.constraint = &constraint;
  request.params.sampling.temperature = 0.3F;
  engine::Request other = request;
  other.params.sampling.seed = 7;

  engine::SpeculationStats drafted, single;
  const auto one_by_one = engine::open({.block_size = 1});
  const auto expected = generate(*one_by_one, {request, other}, &single);
  const auto engine = engine::open({.decode_width = 16});
  EXPECT_EQ(generate(*engine, {request, other}, &drafted), expected);
  EXPECT_LT(drafted.num_cycles() * 2, single.num_cycles());
  RecordProperty("steps_with_drafts", std::to_string(drafted.num_cycles()));
  RecordProperty("steps_without", std::to_string(single.num_cycles()));

  std::map<engine::SessionId, engine::Text> texts;
  const auto first = engine->start(request.prompt, request.params).value();
  run_prompt(*engine, request.prompt.size(), &texts);
  const auto second = engine->fork(first, 7).value();
  run(*engine, &texts, &drafted);
  EXPECT_EQ(texts[first], expected[0]);
  EXPECT_EQ(texts[second], expected[1]);
  for (const engine::Text& text : expected) {
    const std::string content = Served::tokenizer().decode(text.tokens, true);
    EXPECT_TRUE(Json::accept(content)) << content;
  }
}

TEST(ServedGrammar, EveryFieldIsKeptTo) {
  const Served served({});
  Json body = {{"model", "tiny"}, {"prompt", "A cat is"}, {"max_tokens", 60}, {"temperature", 0}};
  const auto text_with = [&](const std::string& name, const Json& value) {
    Json with = body;
    with[name] = value;
    return served.ask("/v1/completions", with)["text"].get<std::string>();
  };
  EXPECT_TRUE(Json::parse(text_with("guided_json", R"({"enum":[12,"ab"]})")).is_primitive());
  const std::string choice = text_with("structured_outputs", {{"choice", {"wolf", "lion"}}});
  EXPECT_TRUE(choice == "wolf" || choice == "lion") << choice;
  EXPECT_EQ(text_with("guided_choice", {"yes"}), "yes");
  EXPECT_EQ(text_with("guided_grammar", "root ::= \"x\"{3} [y]"), "xxxy");
  const std::string digits = text_with("guided_regex", "\\d{3}-\\d{2}");
  EXPECT_EQ(digits.size(), 6u);
  EXPECT_EQ(digits.find_first_not_of("0123456789-"), std::string::npos);
  body["max_tokens"] = 5;
  EXPECT_TRUE(text_with("response_format", {{"type", "json_object"}}).starts_with("{"));
}

TEST(ServedGrammar, ACutAnswerSaysSoAndIgnoredStopsEndAtTheGrammar) {
  const Served served({});
  Json body = {{"model", "tiny"},
               {"prompt", "A cat is"},
               {"max_tokens", 3},
               {"temperature", 0},
               {"guided_regex", "[a-z]{60}"}};
  const Json cut = served.ask("/v1/completions", body);
  EXPECT_EQ(cut["finish_reason"], "length");
  body["guided_regex"] = "ab";
  body["ignore_eos"] = true;
  body["max_tokens"] = 40;
  const Json whole = served.ask("/v1/completions", body);
  EXPECT_EQ(whole["finish_reason"], "stop");
  EXPECT_TRUE(whole["text"].get<std::string>().starts_with("ab")) << whole;
}

// Biases make the model open its thoughts and end them at once.
TEST(ServedGrammar, ThoughtsComeBeforeTheGrammar) {
  const Served served({});
  Json body = chat_body(0);
  body["response_format"] = schema_format(kRecord);
  body["thinking"] = {{"type", "enabled"}};
  const auto id = [](const char* token) {
    return std::to_string(*Served::tokenizer().find_token(token));
  };
  body["logit_bias"] = {{id("<think>"), 40}, {id("</think>"), 100}};
  body["logprobs"] = true;
  const Json thoughtful = served.ask("/v1/chat/completions", body);
  body["thinking"] = {{"type", "disabled"}};
  const Json direct = served.ask("/v1/chat/completions", body);
  EXPECT_EQ(thoughtful["logprobs"]["content"][0]["token"], "<think>");
  EXPECT_EQ(thoughtful["logprobs"]["content"][1]["token"], "</think>");
  for (const Json& choice : {thoughtful, direct}) {
    const auto content = choice["message"]["content"].get<std::string>();
    ASSERT_EQ(choice["finish_reason"], "stop") << content;
    EXPECT_TRUE(Json::accept(content)) << content;
  }
}

constexpr const char* kTools = R"([{"type":"function","function":{"name":"count_lines",
    "parameters":{"type":"object","properties":{"path":{"type":"string"},
    "limit":{"type":"integer","minimum":0,"maximum":9}},"required":["path","limit"]}}},
    {"type":"function","function":{"name":"stop","parameters":{"type":"object","properties":{
    "why":{"type":"string","enum":["done","stuck"]}},"required":["why"]}}}])";

// A model of this size would seldom call by itself.
TEST(ServedGrammar, CallsComeWhereTheyMust) {
  const Served plain({});
  const Served dflash(engine::bundled_setup(16, 1));
  Json body = chat_body(5);
  body["tools"] = Json::parse(kTools);
  body["parallel_tool_calls"] = false;
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "stop"}}}};
  const Json stop = plain.ask("/v1/chat/completions", body)["message"]["tool_calls"];
  ASSERT_EQ(stop.size(), 1u);
  EXPECT_EQ(stop[0]["function"]["name"], "stop");
  const std::string why =
      Json::parse(stop[0]["function"]["arguments"].get<std::string>())["why"].get<std::string>();
  EXPECT_TRUE(why == "done" || why == "stuck") << why;

  body["tool_choice"] = "required";
  body["temperature"] = 0;
  const auto calls_of = [&](const Served& served) {
    Json choice = served.ask("/v1/chat/completions", body);
    EXPECT_EQ(choice["finish_reason"], "tool_calls") << choice;
    return choice["message"]["tool_calls"][0]["function"];
  };
  const Json call = calls_of(plain);
  EXPECT_EQ(calls_of(dflash), call);
  const Json arguments = Json::parse(call["arguments"].get<std::string>());
  EXPECT_TRUE(arguments.contains(call["name"] == "stop" ? "why" : "limit")) << call;
}

// With tools, an answer of a format may be a call instead, unless a bias forbids it.
TEST(ServedGrammar, AFormatLeavesRoomForCalls) {
  const Served served({});
  Json body = chat_body(0);
  body["tools"] = Json::parse(kTools);
  body["parallel_tool_calls"] = false;
  body["response_format"] = schema_format(R"({"enum":["yes","no"]})");
  const std::string call_id = std::to_string(*Served::tokenizer().find_token("<tool_call>"));
  body["logit_bias"] = {{call_id, -100}};
  const Json text = served.ask("/v1/chat/completions", body);
  const auto content = text["message"]["content"].get<std::string>();
  EXPECT_TRUE(content == "\"yes\"" || content == "\"no\"") << text;
  body.erase("logit_bias");
  const Json call = served.ask("/v1/chat/completions", body);
  EXPECT_EQ(call["finish_reason"], "tool_calls") << call;
}

TEST(ServedGrammar, BadGrammarsAreRefusedAndOthersGoOn) {
  const Served served({});
  const std::vector<std::pair<Json, std::string>> cases = {
      {{{"response_format", schema_format(R"({"type":"object","properties":{"a":{"not":{}}}})")}},
       "'response_format.json_schema.schema': #/properties/a/not: this keyword is not supported"},
      {{{"response_format", schema_format(R"({"$ref":"#"})")}}, "no finite text matches"},
      {{{"guided_json", R"({"type":"strin"})"}}, "there is no type \"strin\""},
      {{{"guided_regex", "a(b"}}, "'guided_regex': "},
      {{{"guided_regex", "((((a{99}){99}){99}){99}){99}"}}, "states"},
      {{{"structured_outputs", {{"grammar", "root ::= leaf"}}}}, "no rule is named 'leaf'"},
  };
  for (const auto& [fields, message] : cases) {
    Json body = {{"model", "tiny"}, {"prompt", "A cat is"}, {"max_tokens", 2}};
    body.update(fields);
    const net::TestResponse response = served.post("/v1/completions", body);
    EXPECT_EQ(response.status, 400u) << response.body;
    const Json error = Json::parse(response.body)["error"];
    EXPECT_NE(error["message"].get<std::string>().find(message), std::string::npos) << error;
    EXPECT_TRUE(error["param"].get<std::string>().starts_with(fields.begin().key())) << error;
  }
  const Json fine = {{"model", "tiny"}, {"prompt", "A cat is"}, {"max_tokens", 2}};
  EXPECT_EQ(served.post("/v1/completions", fine).status, 200u);
}

}  // namespace
}  // namespace ultraspeed::server
