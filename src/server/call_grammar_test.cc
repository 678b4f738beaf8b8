// What the grammar of calls lets a model write, the parser of answers reads as calls of the tools,
// with arguments that keep to their schemas.
#include "server/call_grammar.h"

#include <fmt/format.h>
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

Json tool(const char* name, const std::string& parameters) {
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
  return builder.build(root);
}

grammar::Grammar grammar_of(ToolSyntax syntax, bool is_single = false) {
  return grammar::value_or_fail(compile_calls({syntax, tools(), is_single}));
}

std::string call_of(std::string_view body) {
  return std::string(kToolCallOpen) + "\n" + std::string(body) + "\n" + std::string(kToolCallClose);
}

Json arguments_of(ToolSyntax syntax, const Json& tools, const std::string& text) {
  ChatParser parser({.syntax = syntax, .tools = ToolSchemas(tools)});
  std::string arguments;
  for (const ChatEvent& event : parser.push(text)) {
    if (event.kind == ChatEvent::Kind::kCallArguments) arguments += event.text;
  }
  return Json::parse(arguments, nullptr, false);
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

TEST(CallGrammar, ABareCallIsAlone) {
  const grammar::Grammar bare = grammar_of(ToolSyntax::kBareJson);
  const std::string call = R"({"name": "get", "parameters": {"path": "a"}})";
  EXPECT_TRUE(matches(bare, call));
  EXPECT_FALSE(matches(bare, call + "\n" + call));
  EXPECT_FALSE(matches(bare, R"({"name": "get", "parameters": {"path": 1}})"));
  EXPECT_FALSE(matches(bare, call_of(call)));
  EXPECT_EQ(arguments_of(ToolSyntax::kBareJson, tools(), call), Json::parse(R"({"path":"a"})"));
}

TEST(CallGrammar, AnswersInChannelsMayThinkAndThenCallOrKeepToTheFormat) {
  GrammarBuilder builder;
  const auto calls = add_calls({ToolSyntax::kHarmony, tools()}, false, &builder);
  ASSERT_TRUE(calls) << calls.error().message;
  const grammar::RuleId root = builder.add_rule("answer");
  builder.set_body(root, add_channels(builder.bytes("yes"), *calls, &builder));
  const grammar::Grammar answer = grammar::value_or_fail(builder.build(root));
  const std::string thought = "<|channel|>analysis<|message|>a < b<|end|><|start|>assistant";
  const std::string call = R"(<|channel|>commentary to=functions.get <|constrain|>json<|message|>)"
                           R"({"path": "a"})";
  EXPECT_TRUE(matches(answer, "<|channel|>final<|message|>yes"));
  EXPECT_TRUE(matches(answer, thought + thought + "<|channel|>final<|message|>yes"));
  EXPECT_TRUE(matches(answer, call));
  EXPECT_TRUE(matches(answer, thought + call));
  EXPECT_FALSE(matches(answer, "<|channel|>final<|message|>no"));
  EXPECT_FALSE(matches(answer, "yes"));
  EXPECT_FALSE(matches(answer, thought));
  EXPECT_FALSE(matches(answer, call + call));
  EXPECT_FALSE(matches(answer, call.substr(0, call.size() - 3) + "1}"));
  EXPECT_EQ(arguments_of(ToolSyntax::kHarmony, tools(), thought + call),
            Json::parse(R"({"path":"a"})"));
}

Json strict(Json tool) {
  tool["function"]["strict"] = true;
  return tool;
}

// The tool's name, and a parameter 'a' of this schema that must come.
Json tool_of(const std::string& schema) {
  return strict(tool("f", R"({"type":"object","required":["a"],"properties":{"a":)" + schema +
                              R"(},"$defs":{"word":{"type":"string","pattern":"^[a-z]+$"},
                              "count":{"type":"integer","minimum":5}}})"));
}

std::string call_with(ToolSyntax syntax, const std::string& value) {
  const char* line = syntax == ToolSyntax::kXmlLines ? "\n" : "";
  return call_of(
      fmt::format("<function=f>\n<parameter=a>{}{}{}</parameter>\n</function>", line, value, line));
}

struct ValueCase {
  std::string schema;
  std::vector<std::string> accepted;
  std::vector<std::string> refused;
};

TEST(CallGrammar, StringsInXmlKeepToTheirSchemas) {
  const std::vector<ValueCase> cases = {
      {R"({"const":"zz"})", {"zz"}, {"CNY", "", "zzz"}},
      {R"({"enum":["a","</parameter>","b c"]})", {"a", "b c"}, {"c", "</parameter>"}},
      {R"({"type":"string","pattern":"^a<.*>$"})", {"a<>", "a<b>", "a</b>"}, {"b", "a<b"}},
      {R"({"type":"string","pattern":"b"})", {"b", "</parameter b"}, {"", "</parameter>b"}},
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {"ab", "\xE2\x82\xAC\xF0\x9F\x98\x80", "</p", "a\n\n", "<<<"},
       {"a", "abcd", "<"}},
      {R"({"type":"string","minLength":3})", {"abc", "</param", "a</b>\n<"}, {"ab", "<<"}},
      {R"({"type":"string","format":"date"})", {"2024-02-29"}, {"2023-02-29", "today"}},
      {R"({"$ref":"#/$defs/word"})", {"ab"}, {"A", ""}},
      {R"({"allOf":[{"$ref":"#/$defs/word"}],"description":"A word."})", {"ab"}, {"A", "12"}},
      {R"({"$ref":"#/$defs/count"})", {"5", "12"}, {"4", "a"}},
      {R"({"maxLength":2})", {"ab", "12"}, {"abc", "true"}},
      // What is read as something else than a string must be allowed to be that.
      {R"({"type":["string","null"],"maxLength":4})", {"abc", "null", "None"}, {"abcde"}},
      {R"({"type":["string","null"],"enum":["none","null",null]})", {"none", "null"}, {"None"}},
      {R"({"enum":["1",2,"b"]})", {"2", "b"}, {"1", "3"}},
      {R"({"anyOf":[{"type":"string"},{"type":"integer"}]})", {"a", "1.5", " 12"}, {}},
      {R"({"anyOf":[{"type":"string"},{"type":"integer","minimum":5}]})",
       {"a", "7", " a"},
       {"4", " 4", "-1", "\n4"}},
      {R"({"anyOf":[{"type":"string"},{"type":"array","items":{"type":"integer"}}]})",
       {"a[1]", "[1]", ""},
       {"[\"a\"]", " [true]"}},
      {R"({"type":"string"})", {"", "12", "null", "a</parameter"}, {"</parameter>"}},
      {R"({"description":"Anything."})", {"", "12", "a"}, {"</parameter>"}}};
  for (const ToolSyntax syntax : {ToolSyntax::kXml, ToolSyntax::kXmlLines}) {
    for (const ValueCase& example : cases) {
      const Json tools = Json::array({tool_of(example.schema)});
      const auto grammar = grammar::value_or_fail(compile_calls({syntax, tools, true}));
      const Json& root = tools[0]["function"]["parameters"];
      for (const std::string& value : example.accepted) {
        const std::string text = call_with(syntax, value);
        EXPECT_TRUE(matches(grammar, text)) << example.schema << " should accept " << value;
        const Json arguments = arguments_of(syntax, tools, text);
        EXPECT_TRUE(grammar::is_valid(root, arguments, root)) << text << '\n' << arguments;
      }
      for (const std::string& value : example.refused) {
        EXPECT_FALSE(matches(grammar, call_with(syntax, value)))
            << example.schema << " should refuse " << value;
      }
    }
  }
}

TEST(CallGrammar, StrictSchemasAreKeptToOrRefused) {
  const std::vector<std::string> of_parameter = {R"({"type":"string","not":{"const":"a"}})",
                                                 R"({"type":"string","format":"odd"})",
                                                 R"({"type":"string","pattern":"a","maxLength":3})",
                                                 R"({"anyOf":[{"type":"string"},{}]})",
                                                 R"({"type":"string","enum":["</parameter>"]})",
                                                 R"({"type":["string","null"],"enum":["None"]})",
                                                 R"({"type":"string","maxLength":9000})"};
  for (const std::string& schema : of_parameter) {
    const auto refused = compile_calls({ToolSyntax::kXml, Json::array({tool_of(schema)}), true});
    EXPECT_FALSE(refused) << schema;
  }
  const std::vector<const char*> of_all = {
      R"({"type":"array"})",
      R"({"type":"object","required":["a"]})",
      R"({"type":"object","properties":{"a":{"type":"null"}},"required":["b"]})",
      R"({"anyOf":[{"properties":{}}]})",
      R"({"additionalProperties":{"type":"integer"}})",
      R"({"$ref":"#"})",
      R"({"patternProperties":{"a":{}}})"};
  for (const char* schema : of_all) {
    const auto refused =
        compile_calls({ToolSyntax::kXml, Json::array({strict(tool("f", schema))}), true});
    ASSERT_FALSE(refused) << schema;
    EXPECT_TRUE(refused.error().message.starts_with("the parameters of 'f': #"))
        << refused.error().message;
    EXPECT_TRUE(compile_calls({ToolSyntax::kXml, Json::array({tool("f", schema)}), true}))
        << schema;
  }
  const Json unnamed = Json::array({tool("f", R"({"properties":{"a>b":{"type":"string"}}})")});
  EXPECT_FALSE(compile_calls({ToolSyntax::kXml, unnamed, true}));
}

TEST(CallGrammar, ManyToolsShareWhatIsOfAnyValue) {
  Json many = Json::array();
  for (int i = 0; i < 128; ++i) {
    many.push_back(tool(fmt::format("f{}", i).c_str(),
                        R"({"properties":{"options":{"type":"object"},"list":{"type":"array"},
                        "size":{"type":"integer"},"path":{"type":"string"}}})"));
  }
  for (const ToolSyntax syntax : {ToolSyntax::kXmlLines, ToolSyntax::kJson}) {
    const auto calls = compile_calls({syntax, many, false});
    EXPECT_TRUE(calls) << calls.error().message;
  }
}

// A long string takes many states, which are not to be the loss of other tools.
TEST(CallGrammar, LengthsThatAreTooMuchReduceTheirOwnToolAlone) {
  const char* parameters = R"({"properties":{"a":{"type":"string","maxLength":2001}}})";
  const Json sized = tool("f", parameters);
  const auto refused = compile_calls({ToolSyntax::kXml, Json::array({strict(sized)}), true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "the parameters of 'f': #/properties/a: a string without quotes can be kept to lengths "
            "of up to 2000");
  const Json both = Json::array({sized, tool("g", R"({"properties":{"a":{"const":"x"}}})")});
  const auto xml = grammar::value_or_fail(compile_calls({ToolSyntax::kXml, both, true}));
  EXPECT_FALSE(matches(xml, call_of("<function=g>\n<parameter=a>y</parameter>\n</function>")));
}

// Others keep to theirs.
TEST(CallGrammar, TypesAloneAreKeptToWhereASchemaIsTooMuch) {
  const Json odd = tool("f", R"({"type":"object","properties":{"a":{"type":
      "integer","not":{"const":3}},"b":{"not":{}}},"required":["a"]})");
  for (const ToolSyntax syntax : {ToolSyntax::kXml, ToolSyntax::kJson}) {
    const auto refused = compile_calls({syntax, Json::array({strict(odd)}), true});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
    EXPECT_TRUE(refused.error().message.starts_with("the parameters of 'f': #/properties/"));
  }
  const Json both = Json::array({odd, strict(tool("g", R"({"properties":{"a":{"const":"x"}}})"))});
  const auto xml = grammar::value_or_fail(compile_calls({ToolSyntax::kXml, both, true}));
  EXPECT_TRUE(matches(xml, call_of("<function=f>\n<parameter=a>3</parameter>\n</function>")));
  EXPECT_FALSE(matches(xml, call_of("<function=f>\n<parameter=a>x</parameter>\n</function>")));
  EXPECT_TRUE(matches(xml, call_of("<function=g>\n<parameter=a>x</parameter>\n</function>")));
  EXPECT_FALSE(matches(xml, call_of("<function=g>\n<parameter=a>y</parameter>\n</function>")));
  const auto json = grammar::value_or_fail(compile_calls({ToolSyntax::kJson, both, true}));
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
