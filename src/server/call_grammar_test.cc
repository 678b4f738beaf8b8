// What the grammar of calls lets a model write, the parser of answers reads as calls of the tools,
// with arguments that keep to their schemas.
#include "server/call_grammar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "grammar/ebnf.h"
#include "grammar/schema_validator.h"
#include "grammar/test_support.h"
#include "server/chat_parser.h"
#include "support/scale.h"

namespace ultraspeed::server {
namespace {

using grammar::GrammarBuilder;
using grammar::matches;

Json tool(const char* name, const char* parameters) {
  return {{"type", "function"},
          {"function", {{"name", name}, {"parameters", Json::parse(parameters)}}}};
}

const Json& tools() {
  static const Json kTools = {
      tool("get", R"({"type":"object","properties":{"path":{"type":"string"},
          "lines":{"type":"integer","minimum":1,"maximum":99},
          "mode":{"enum":["text","bytes"]},"tags":{"type":"array","maxItems":2,
          "items":{"$ref":"#/$defs/tag"}}},"required":["path"],
          "$defs":{"tag":{"type":"string","maxLength":4}}})"),
      tool("stop", R"({"type":"object","properties":{}})")};
  return kTools;
}

Result<grammar::Grammar> compile_calls(const CallChoice& calls, bool types_only = false) {
  GrammarBuilder builder;
  US_ASSIGN(const grammar::ExprId body, add_calls(calls, types_only, &builder));
  const grammar::RuleId root = builder.add_rule("calls");
  builder.set_body(root, body);
  return builder.build(root, {.max_inlined_states = grammar::kMaxInlinedStates});
}

grammar::Grammar grammar_of(ToolSyntax syntax, bool is_single = false) {
  return grammar::value_or_fail(compile_calls({syntax, tools(), is_single}));
}

std::string call_of(std::string_view body) {
  return std::string(kToolCallOpen) + "\n" + std::string(body) + "\n" + std::string(kToolCallClose);
}

TEST(CallGrammar, XmlCallsAreWrittenAsTheTemplateWritesThem) {
  const grammar::Grammar xml = grammar_of(ToolSyntax::kXml);
  const std::string path = "<parameter=path>a.txt</parameter>\n";
  const auto get = [](const std::string& parameters) {
    return call_of("<function=get>\n" + parameters + "</function>");
  };
  EXPECT_TRUE(matches(xml, get(path)));
  EXPECT_TRUE(matches(xml, get(path + "<parameter=lines>12</parameter>\n")));
  EXPECT_TRUE(matches(xml, get(path + "<parameter=mode>bytes</parameter>\n")));
  EXPECT_TRUE(matches(xml, get(path + "<parameter=tags>[\"ab\"]</parameter>\n")));
  EXPECT_TRUE(matches(xml, get("<parameter=path>a < b </p> <<//parameter></parameter>\n")));
  EXPECT_TRUE(matches(xml, call_of("<function=stop>\n</function>")));
  EXPECT_TRUE(matches(xml, get(path) + "\n" + get(path)));
  EXPECT_FALSE(matches(xml, get("")));
  EXPECT_FALSE(matches(xml, get(path + "<parameter=lines>ten</parameter>\n")));
  EXPECT_FALSE(matches(xml, get(path + "<parameter=lines>100</parameter>\n")));
  EXPECT_FALSE(matches(xml, get(path + "<parameter=mode>lines</parameter>\n")));
  EXPECT_FALSE(matches(xml, get(path + "<parameter=tags>[\"abcde\"]</parameter>\n")));
  EXPECT_FALSE(matches(xml, get(path + "<parameter=color>red</parameter>\n")));
  EXPECT_FALSE(matches(xml, call_of("<function=put>\n</function>")));
  EXPECT_FALSE(matches(xml, "Certainly! " + get(path)));
  EXPECT_FALSE(matches(grammar_of(ToolSyntax::kXml, true), get(path) + "\n" + get(path)));
}

TEST(CallGrammar, JsonCallsKeepToTheSchema) {
  const grammar::Grammar json = grammar_of(ToolSyntax::kJson);
  EXPECT_TRUE(matches(json, call_of(R"({"name": "get", "arguments": {"path": "a"}})")));
  EXPECT_TRUE(matches(json, call_of(R"({"name": "stop", "arguments": {}})")));
  EXPECT_FALSE(matches(json, call_of(R"({"name": "get", "arguments": {"path": 1}})")));
  EXPECT_FALSE(matches(json, call_of(R"({"name": "get", "arguments": {}})")));
  EXPECT_FALSE(matches(json, call_of(R"({"name": "put", "arguments": {}})")));
}

TEST(CallGrammar, TypesAloneAreKeptToWhereASchemaIsTooMuch) {
  const Json odd = Json::array({tool("f", R"({"type":"object","properties":{"a":{"type":
      "integer","not":{"const":3}},"b":{"not":{}}},"required":["a"]})")});
  for (const ToolSyntax syntax : {ToolSyntax::kXml, ToolSyntax::kJson}) {
    const auto refused = compile_calls({syntax, odd, true});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
    EXPECT_TRUE(refused.error().message.starts_with("the parameters of 'f': #/properties/"));
  }
  const auto xml = grammar::value_or_fail(compile_calls({ToolSyntax::kXml, odd, true}, true));
  EXPECT_TRUE(matches(xml, call_of("<function=f>\n<parameter=a>3</parameter>\n</function>")));
  EXPECT_FALSE(matches(xml, call_of("<function=f>\n<parameter=a>x</parameter>\n</function>")));
  const auto json = grammar::value_or_fail(compile_calls({ToolSyntax::kJson, odd, true}, true));
  EXPECT_TRUE(matches(json, call_of(R"({"name": "f", "arguments": {"a": 3}})")));
  EXPECT_FALSE(matches(json, call_of(R"({"name": "f", "arguments": {"b": 3}})")));
}

const Json& schema_of(const std::string& name) {
  for (const Json& each : tools()) {
    if (each["function"]["name"] == name) return each["function"]["parameters"];
  }
  static const Json kNone;
  return kNone;
}

// Free choices at first, then what leads to an end.
std::string random_calls(grammar::Machine* machine, std::mt19937* random) {
  const int32_t stop = grammar::stop_token(machine->vocabulary);
  grammar::Matcher matcher = machine->matcher();
  std::string text;
  for (int i = 0; i < 300; ++i) {
    const std::vector<int32_t> allowed = machine->allowed(matcher);
    int32_t token = allowed[(*random)() % allowed.size()];
    for (const std::string_view wanted : {"\"", "]", "}", "</", "</pa", "</parameter>"}) {
      for (const int32_t id : allowed) {
        if (i > 40 && machine->vocabulary.bytes(id) == wanted) token = id;
      }
    }
    if (std::ranges::find(allowed, stop) != allowed.end() && i > 40) return text;
    if (token == stop) return text;
    EXPECT_TRUE(matcher.accept(token));
    text += machine->vocabulary.bytes(token);
  }
  return text;
}

TEST(CallGrammar, WhatItAllowsIsReadAsValidCalls) {
  std::vector<std::string> pieces = grammar::json_tokens();
  pieces.insert(pieces.end(), {"<tool_call>", "</tool_call>", "<function=", "</parameter>", "</pa",
                               "get", "\n</", ">\n<", "<parameter=", "</"});
  std::mt19937 random(3);
  for (const ToolSyntax syntax : {ToolSyntax::kXml, ToolSyntax::kXmlLines, ToolSyntax::kJson}) {
    grammar::Machine machine(grammar_of(syntax), grammar::test_vocabulary(pieces));
    size_t num_calls = 0;
    for (int i = 0; i < test::scaled(200); ++i) {
      const std::string text = random_calls(&machine, &random);
      if (!matches(machine.grammar, text)) continue;  // the walk found no end in time
      ChatParser parser({.syntax = syntax, .tools = ToolSchemas(tools())});
      std::vector<ChatEvent> events = parser.push(text);
      for (ChatEvent& event : parser.finish(false)) events.push_back(std::move(event));
      std::string name;
      std::string arguments;
      for (const ChatEvent& event : events) {
        EXPECT_NE(event.kind, ChatEvent::Kind::kContent) << text;
        if (event.kind == ChatEvent::Kind::kCallBegin) name = event.text, arguments.clear();
        if (event.kind == ChatEvent::Kind::kCallArguments) arguments += event.text;
        if (event.kind != ChatEvent::Kind::kCallEnd) continue;
        EXPECT_TRUE(event.is_complete) << text;
        const Json value = Json::parse(arguments, nullptr, false);
        ASSERT_FALSE(value.is_discarded()) << text;
        const Json& schema = schema_of(name);
        EXPECT_TRUE(grammar::is_valid(schema, value, schema)) << text << '\n' << arguments;
        ++num_calls;
      }
    }
    EXPECT_GT(num_calls, static_cast<size_t>(test::scaled(200)) / 8);
  }
}

}  // namespace
}  // namespace ultraspeed::server
