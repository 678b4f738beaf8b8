// What the parser makes of answers, and that neither chunks nor their number matter.
#include "server/chat_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "server/chat_parser_test_support.h"
#include "server/test_model.h"

namespace ultraspeed::server {

namespace {

TEST(ChatParserTest, SplitsReasoningAndContent) {
  const std::vector<std::pair<std::string, Lines>> cases = {
      {"", {}},
      {"plain", {"c:plain"}},
      {"<think>a</think>b", {"r:a", "c:b"}},
      {"<think></think>b", {"c:b"}},
      {"<think></think>", {}},
      {"<think>never ends", {"r:never ends"}},
      {"<think>a</thi", {"r:a</thi"}},
      {"<thin", {"c:<thin"}},
      {" \n<think>a</think>\n\nb ", {"r:a", "c:\n\nb "}},
      {" \n b", {"c: \n b"}},
      {" \n", {"c: \n"}},
      {"< think>a</think>", {"c:< think>a</think>"}},
      {"<<think>a</think>", {"c:<<think>a</think>"}},
      {"<think>a<</think>b", {"r:a<", "c:b"}},
      {"<think>a</</think>b", {"r:a</", "c:b"}},
      {"<think><think>a</think>b", {"r:<think>a", "c:b"}},
      {"<think>a</think>b<think>c</think>", {"r:a", "c:b<think>c</think>"}},
      {"a</think>b", {"c:a</think>b"}},
      {"<think>\xE6\x80\x9D</think>\xE7\xAD\x94", {"r:\xE6\x80\x9D", "c:\xE7\xAD\x94"}},
      {"<think>a<tool_call></think> <tool_cal", {"r:a<tool_call>", "c: <tool_cal"}},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(summary(parse_chunks(text, {}, {})), expected) << text;
    EXPECT_EQ(parse(text, ToolSyntax::kXml), expected) << text;
  }
}

TEST(ChatParserTest, MayStartInReasoning) {
  ChatParser::Options options;
  options.starts_in_reasoning = true;
  EXPECT_EQ(summary(parse_chunks("a</think>b", {}, options)), Lines({"r:a", "c:b"}));
  EXPECT_EQ(summary(parse_chunks("</think>b", {}, options)), Lines({"c:b"}));
  EXPECT_EQ(summary(parse_chunks("a", {}, options)), Lines({"r:a"}));
}

TEST(ChatParserTest, HoldsBackOnlyWhatMayBeAMarker) {
  ChatParser parser(options_of(ToolSyntax::kXml));
  const auto push = [&parser](std::string_view text) { return summary(parser.push(text)); };
  EXPECT_EQ(push("<think>a"), Lines({"r:a"}));
  EXPECT_EQ(push("b</"), Lines({"r:b"}));
  EXPECT_EQ(push("c"), Lines({"r:</c"}));
  EXPECT_EQ(push("</think>d \n<"), Lines({"c:d"}));
  EXPECT_EQ(push("e"), Lines({"c: \n<e"}));
}

TEST(ChatParserTest, WithoutToolsCallsAreContent) {
  const std::string call = "<tool_call>\n<function=now>\n</function>\n</tool_call>";
  EXPECT_EQ(parse(call, ToolSyntax::kNone), Lines({"c:" + call}));
  ChatParser::Options options;
  options.syntax = ToolSyntax::kXml;
  EXPECT_EQ(summary(parse_chunks(call, {}, options)), Lines({"c:" + call}));
}

TEST(ChatParserTest, EventsOfACall) {
  const std::string call =
      "\n<tool_call>\n<function=get>\n<parameter=city>Rom</parameter>\n"
      "<parameter=days>3</parameter>\n</function>\n</tool_call>";
  const Events events =
      parse_chunks("<think>x</think>Well.\n" + call + call, {}, options_of(ToolSyntax::kXml));
  const Events expected = {
      {EventKind::kReasoning, "x", 0, "", true},
      {EventKind::kContent, "Well.", 0, "", true},
      {EventKind::kCallBegin, "get", 0, "c0", true},
      {EventKind::kCallArguments, R"({"city":"Rom","days":3})", 0, "", true},
      {EventKind::kCallEnd, "\n" + call, 0, "", true},
      {EventKind::kCallBegin, "get", 1, "c1", true},
      {EventKind::kCallArguments, R"({"city":"Rom","days":3})", 1, "", true},
      {EventKind::kCallEnd, call, 1, "", true},
  };
  EXPECT_EQ(events, expected);
}

std::string xml(const std::string& inner) {
  return "<tool_call>\n<function=get>" + inner + "</function></tool_call>";
}

TEST(ChatParserTest, XmlValuesBecomeJson) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "{}"},
      {"<parameter=city>a\n\"b\"\\</parameter>", R"({"city":"a\n\"b\"\\"})"},
      {"<parameter=city></parameter>", R"({"city":""})"},
      {"<parameter=city>5</parameter>", R"({"city":"5"})"},
      {"<parameter=days> 5\n</parameter>", R"({"days":5})"},
      {"<parameter=days>five</parameter>", R"({"days":"five"})"},
      {"<parameter=days></parameter>", R"({"days":""})"},
      {"<parameter=on>True</parameter>", R"({"on":true})"},
      {"<parameter=where>{\"x\": [1]}</parameter>", R"({"where":{"x": [1]}})"},
      {"<parameter=where>None</parameter>", R"({"where":null})"},
      {"<parameter=any>[1]</parameter>", R"({"any":[1]})"},
      {"<parameter=other>a b</parameter>", R"({"other":"a b"})"},
      // What only looks like the end of a value belongs to it.
      {"<parameter=city>x</parameter> or</parameter>\n", R"({"city":"x</parameter> or"})"},
      {"<parameter=city></function></tool_call></parameter>",
       R"({"city":"</function></tool_call>"})"},
      {"<parameter=city></</parameter><</parameter></parameter>",
       R"({"city":"</</parameter><</parameter>"})"},
  };
  for (const auto& [inner, arguments] : cases) {
    EXPECT_EQ(parse(xml(inner), ToolSyntax::kXml), Lines({"get:" + arguments})) << inner;
  }
}

TEST(ChatParserTest, LineBreaksAroundValuesMayBelongToTheSyntax) {
  const std::string call = xml("<parameter=city>\n\n a\nb\n\n</parameter>\n");
  EXPECT_EQ(parse(call, ToolSyntax::kXml), Lines({R"(get:{"city":"\n\n a\nb\n\n"})"}));
  EXPECT_EQ(parse(call, ToolSyntax::kXmlLines), Lines({R"(get:{"city":"\n a\nb\n"})"}));
  EXPECT_EQ(parse(xml("<parameter=city>\n</parameter>"), ToolSyntax::kXmlLines),
            Lines({R"(get:{"city":""})"}));
  EXPECT_EQ(parse(xml("<parameter=city>a\n</par</parameter>"), ToolSyntax::kXmlLines),
            Lines({R"(get:{"city":"a\n</par"})"}));
}

TEST(ChatParserTest, BrokenXmlCalls) {
  const std::string good = "<tool_call><function=now></function></tool_call>";
  const std::vector<std::pair<std::string, Lines>> cases = {
      {"<tool_call>\n<function=other>\n</function>\n</tool_call>",
       {"c:<tool_call>\n<function=other>\n</function>\n</tool_call>"}},
      {"<tool_call>call me</tool_call>" + good, {"c:<tool_call>call me</tool_call>", "now:{}"}},
      {"<tool_call><function=now>{}</function></tool_call>",
       {"c:<tool_call><function=now>{}</function></tool_call>"}},
      {"<tool_call>" + good, {"c:<tool_call>", "now:{}"}},
      {"<tool_call><function=" + good, {"c:<tool_call><function=", "now:{}"}},
      {good + "\nand\n" + good + "\n", {"now:{}", "c:\nand", "now:{}"}},
      {good + good, {"now:{}", "now:{}"}},
      {"<tool_call><function=now>", {"c:<tool_call><function=now>"}},
      {"<tool_call><function=now></function>", {"now:{}"}},
      {"<tool_call><function=now></function>ok", {"now:{}", "c:ok"}},
      {"<tool_call><function=now></tool_call>", {"now:{}"}},
      {"<tool_call><function=get><parameter=city>a</parameter></tool_call>",
       {R"(get:{"city":"a"})"}},
      {"<tool_call><function=get><parameter=city>a</parameter>\n</fun", {R"(get:{"city":"a"})"}},
      {"<tool_call><function=get><parameter=city>a</pa", {R"(get?{"city":"a)"}},
      {"<tool_call><function=get><parameter=days>1", {R"(get?{"days":)"}},
      {"<tool_call><function=get><parameter=da", {"get?{"}},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(parse(text, ToolSyntax::kXml), expected) << text;
  }
}

TEST(ChatParserTest, ATextThatWasCutOffCompletesNoCall) {
  const std::string call = "<tool_call><function=get><parameter=city>a</parameter>";
  EXPECT_EQ(parse(call, ToolSyntax::kXml, true), Lines({R"(get?{"city":"a")"}));
  EXPECT_EQ(parse(call + "</function>", ToolSyntax::kXml, true), Lines({R"(get:{"city":"a"})"}));
  const std::string json = R"(<tool_call>{"name":"now","arguments":{})";
  EXPECT_EQ(parse(json, ToolSyntax::kJson, true), Lines({"now?{}"}));
  EXPECT_EQ(parse(json, ToolSyntax::kJson, false), Lines({"now:{}"}));
}

TEST(ChatParserTest, JsonCalls) {
  const auto call = [](const std::string& json) { return "<tool_call>" + json + "</tool_call>"; };
  const std::vector<std::pair<std::string, Lines>> cases = {
      {call("\n{\"name\": \"get\", \"arguments\": {\"city\": \"}\\\"\", \"x\": [{}]}}\n"),
       {R"(get:{"city": "}\"", "x": [{}]})"}},
      {call(R"({"id":{"name":"x"},"name":"now","parameters":{},"k":[1]})"), {"now:{}"}},
      {call(R"({"name":"get","arguments":{"city":"a)"
            "\n"
            R"(b"}})"),
       {R"(get:{"city":"a\nb"})"}},
      {call(R"({"arguments":{"city":"a"},"name":"get"})"), {R"(get:{"city":"a"})"}},
      {call(R"({"name":"get","arguments":"{\"city\":1}"})"), {R"(get:{"city":1})"}},
      {call(R"({"name":"now"})"), {"now:{}"}},
      {call(R"({"name":"now","arguments":null})"), {"now:{}"}},
      {call(R"({"n\u0061me":"now","arguments":{}})"), {"now:{}"}},
      {call(R"({"name":"no","arguments":{}})"), {"c:" + call(R"({"name":"no","arguments":{}})")}},
      {call(R"({"name":"now","arguments":[]})"), {"c:" + call(R"({"name":"now","arguments":[]})")}},
      {call(R"({"name":now})"), {"c:" + call(R"({"name":now})")}},
      {call("[]"), {"c:" + call("[]")}},
      {R"(<tool_call>{"name":"now","arguments":{"a":1)", {R"(now?{"a":1)"}},
      {R"(<tool_call>{"name":"now",)", {R"(c:<tool_call>{"name":"now",)"}},
      {call(R"({"name":"now","arguments":{"a":nope}})") + ".",
       {R"(now?{"a":nope})", "c:</tool_call>."}},
      {call(R"({"name":"now","arguments":{"a" 1]})") + ".", {R"(now?{"a" 1])", "c:</tool_call>."}},
      {R"(<tool_call>{"name":"now","arguments":{}}<tool_call>{"name":"now"}</tool_call>.)",
       {"now:{}", "now:{}", "c:."}},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(parse(text, ToolSyntax::kJson), expected) << text;
  }
}

TEST(ChatParserTest, ABareCallIsTheWholeAnswer) {
  const std::string call = R"({"name": "get", "parameters": {"city": "a", "x": [{}]}})";
  const std::vector<std::pair<std::string, Lines>> cases = {
      {call, {R"(get:{"city": "a", "x": [{}]})"}},
      {" \n" + call + "\n", {R"(get:{"city": "a", "x": [{}]})", "c:\n"}},
      {"<|python_tag|>" + call, {R"(get:{"city": "a", "x": [{}]})"}},
      {"<think>a</think>\n" + call, {"r:a", R"(get:{"city": "a", "x": [{}]})"}},
      {R"({"name":"now","arguments":{}})", {"now:{}"}},
      {"Look: " + call, {"c:Look: " + call}},
      {R"({"a":{"name":"now"}} b)", {R"(c:{"a":{"name":"now"}} b)"}},
      {R"({"name":"no","parameters":{}})", {R"(c:{"name":"no","parameters":{}})"}},
      {"<|python_tag|>print(1)", {"c:<|python_tag|>print(1)"}},
      {"<|python", {"c:<|python"}},
      {R"({"name":"now","parameters":{"a":1)", {R"(now?{"a":1)"}},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_EQ(parse(text, ToolSyntax::kBareJson), expected) << text;
  }
}

TEST(ChatParserTest, StringsStream) {
  ChatParser parser(options_of(ToolSyntax::kXml));
  parser.push("<tool_call><function=get><parameter=city>");
  EXPECT_EQ(parser.push("a\"").front().text, "a\\\"");
  ChatParser json(options_of(ToolSyntax::kJson));
  json.push(R"(<tool_call>{"name":"get","arguments":)");
  EXPECT_EQ(json.push(R"({"city":"a)").back().text, R"({"city":"a)");
  EXPECT_EQ(json.push("b").back().text, "b");
}

TEST(ChatParserTest, StopsAfterTheLastCall) {
  ChatParser::Options options = options_of(ToolSyntax::kXml);
  options.max_calls = 1;
  ChatParser parser(options);
  const std::string call = "<tool_call><function=now></function></tool_call>";
  EXPECT_EQ(summary(parser.push("a" + call + "b" + call)), Lines({"c:a", "now:{}"}));
  EXPECT_TRUE(parser.is_done());
  EXPECT_TRUE(parser.push("c").empty() && parser.finish(false).empty());
}

TEST(ChatParserTest, TheTemplateTellsTheSyntax) {
  EXPECT_EQ(detect_tool_syntax(&test_chat_template()), ToolSyntax::kXml);
  EXPECT_EQ(detect_tool_syntax(nullptr), ToolSyntax::kNone);
  const auto syntax_of = [](std::string_view call) {
    const auto chat_template = text::ChatTemplate::from_source(fmt::format(
        "{{% for m in messages %}}{{{{ m.content }}}}{{% for c in m.tool_calls %}}<tool_call>"
        "{}</tool_call>{{% endfor %}}{{% endfor %}}",
        call));
    EXPECT_TRUE(chat_template) << chat_template.error().message;
    return detect_tool_syntax(&*chat_template);
  };
  EXPECT_EQ(syntax_of(R"({"name": "{{ c.function.name }}",)"
                      R"("arguments": {{ c.function.arguments | tojson }}})"),
            ToolSyntax::kJson);
  EXPECT_EQ(syntax_of("<function={{ c.function.name }}>{% for k, v in c.function.arguments.items() "
                      "%}<parameter={{ k }}>\n{{ v }}\n</parameter>{% endfor %}"),
            ToolSyntax::kXmlLines);
  EXPECT_EQ(syntax_of("{{ c.function.name }}"), ToolSyntax::kNone);
  EXPECT_EQ(detect_tool_syntax(&test_template("llama3_1")), ToolSyntax::kBareJson);
  EXPECT_EQ(detect_tool_syntax(&test_template("harmony")), ToolSyntax::kHarmony);
  EXPECT_EQ(detect_tool_syntax(&test_template("qwen3")), ToolSyntax::kJson);
  EXPECT_EQ(detect_tool_syntax(&test_template("qwen2_5")), ToolSyntax::kJson);
}

std::string generated_text() {
  const auto pieces = *rc::gen::container<std::vector<std::string>>(rc::gen::element<std::string>(
      "<think>", "</think>", "<", "</", "think>", " ", "\n", "a", "\xC3\xA9", "<tool_call>",
      "</tool_call>", "<tool_call>\n<function=get>\n<parameter=city>", "<function=now>",
      "<parameter=days>", "<parameter=city>", "</parameter>", "</function>", "1", "\"", "{", "}",
      R"(<tool_call>{"name":"get","arguments":{"city":)", R"("name":"now")", ",", "arguments\":",
      R"({"name":"now","parameters":{)", "<|python_tag|>", "<|channel|>", "<|end|>", "<|message|>",
      "<|start|>assistant", "<|channel|>analysis<|message|>", "<|channel|>final<|message|>",
      "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{", " to=functions.get",
      "<|call|>", "<|return|>"));
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

TEST(ChatParserTest, ChunksDoNotMatter) {
  const bool holds = rc::check("any chunking gives the same events", [] {
    const std::string text = generated_text();
    auto ends =
        *rc::gen::container<std::vector<size_t>>(rc::gen::inRange<size_t>(0, text.size() + 1));
    std::sort(ends.begin(), ends.end());
    ChatParser::Options options = options_of(
        *rc::gen::element(ToolSyntax::kNone, ToolSyntax::kXml, ToolSyntax::kXmlLines,
                          ToolSyntax::kJson, ToolSyntax::kBareJson, ToolSyntax::kHarmony));
    options.starts_in_reasoning = *rc::gen::arbitrary<bool>();
    options.starts_in_content = options.starts_in_reasoning;
    const bool was_cut_off = *rc::gen::arbitrary<bool>();
    std::vector<size_t> every;
    for (size_t i = 0; i <= text.size(); ++i) every.push_back(i);
    const Events whole = parse_chunks(text, {}, options, was_cut_off);
    RC_ASSERT(parse_chunks(text, ends, options, was_cut_off) == whole);
    RC_ASSERT(parse_chunks(text, every, options, was_cut_off) == whole);
  });
  EXPECT_TRUE(holds);
}

TEST(ChatParserTest, NothingIsLost) {
  const bool holds = rc::check("content and calls make the text", [] {
    const std::string text = "." + generated_text();
    const ToolSyntax syntax = *rc::gen::element(ToolSyntax::kXml, ToolSyntax::kXmlLines,
                                                ToolSyntax::kJson, ToolSyntax::kBareJson);
    std::string again;
    bool is_complete = true;
    for (const ChatEvent& event : parse_chunks(text, {}, options_of(syntax))) {
      if (event.kind == EventKind::kContent || event.kind == EventKind::kCallEnd)
        again += event.text;
      is_complete = is_complete && event.is_complete;
    }
    again += std::string_view(text).substr(std::min(again.size(), text.size()));
    const size_t last = text.find_last_not_of(" \n");
    RC_ASSERT(again == text);
    RC_ASSERT(again.size() >= last);
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace ultraspeed::server
