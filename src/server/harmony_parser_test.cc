// What the parser makes of answers in the harmony format, cut at every byte.
#include "server/harmony_parser.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "server/chat_parser_test_support.h"
#include "server/test_model.h"
#include "server/think_block.h"

namespace ultraspeed::server {
namespace {

const std::string kAnalysis = "<|channel|>analysis<|message|>";
const std::string kFinal = "<|channel|>final<|message|>";
const std::string kNext = "<|end|><|start|>assistant";

std::string call_to(const std::string& recipient, const std::string& arguments) {
  return "<|channel|>commentary to=" + recipient + " <|constrain|>json<|message|>" + arguments;
}

struct Case {
  std::string text;
  Lines expected;
  bool was_cut_off = false;
};

void expect_parsed(const std::vector<Case>& cases) {
  for (const auto& [text, expected, was_cut_off] : cases) {
    const ChatParser::Options options = options_of(ToolSyntax::kHarmony);
    EXPECT_EQ(summary(parse_chunks(text, {}, options, was_cut_off)), expected) << text;
    std::vector<size_t> every;
    for (size_t i = 0; i <= text.size(); ++i) every.push_back(i);
    EXPECT_EQ(summary(parse_chunks(text, every, options, was_cut_off)), expected) << text;
  }
}

TEST(HarmonyParserTest, SplitsChannels) {
  expect_parsed({
      {"", {}},
      {kFinal + "Hi.", {"c:Hi."}},
      {kFinal + "Hi.<|return|>no more", {"c:Hi."}},
      {kAnalysis + "Hm.\n" + kNext + kFinal + " Hi. <|return|>", {"r:Hm.\n", "c: Hi. "}},
      {kAnalysis + "a" + kNext + kAnalysis + "b" + kNext + kFinal + "c", {"r:a\n\nb", "c:c"}},
      {kAnalysis + kNext + kFinal + "c", {"c:c"}},
      {"<|channel|>commentary<|message|>Look." + kNext + kFinal + "x", {"c:Look.\n\nx"}},
      {"<|message|>Hi", {"c:Hi"}},
      {"<|channel|>odd<|message|>Hi", {"c:Hi"}},
      {"<|start|>assistant" + kFinal + "Hi", {"c:Hi"}},
      {kFinal + "a < b <| c <|end <|message|> d", {"c:a < b <| c <|end <|message|> d"}},
      {kFinal + "a<|en", {"c:a<|en"}},
      {kFinal + "a<<|return|>", {"c:a<"}},
  });
}

// Models leave marks out.
TEST(HarmonyParserTest, ForgivesMissingMarks) {
  expect_parsed({
      {"plain", {"c:plain"}},
      {" \n plain <|end|>", {"c: \n plain "}},
      {"to be", {"c:to be"}},
      {kAnalysis + "a<|channel|>final<|message|>b", {"r:a", "c:b"}},
      {kAnalysis + "a<|start|>assistant" + kFinal + "b", {"r:a", "c:b"}},
      {kAnalysis + "a<|end|>" + kFinal + "b", {"r:a", "c:b"}},
      {kAnalysis + "a<|end|>\n b", {"r:a", "c:\n b"}},
      {kAnalysis + "a" + kNext, {"r:a"}},
      {"<|channel|>final", {}},
      {"<|channel|>" + std::string(2000, 'x'), {"c:<|channel|>" + std::string(2000, 'x')}},
  });
}

TEST(HarmonyParserTest, MessagesToFunctionsAreCalls) {
  const std::string arguments = R"({"city": "<Bonn>", "x": [{}]})";
  const std::string call = call_to("functions.get", arguments);
  expect_parsed({
      {call, {"get:" + arguments}},
      {call + "<|call|>.", {"get:" + arguments}},
      {kAnalysis + "a" + kNext + call + "<|call|>", {"r:a", "get:" + arguments}},
      {call + kNext + call_to("functions.now", "{}"), {"get:" + arguments, "now:{}"}},
      {" to=functions.get<|channel|>commentary json<|message|>" + arguments, {"get:" + arguments}},
      {"<|start|>assistant to=functions.now<|channel|>analysis<|message|>{}", {"now:{}"}},
      {call_to("get", arguments), {"get:" + arguments}},
      {call_to("functions.now", " \n"), {"now:{}"}},
      {call_to("functions.now", ""), {"now:{}"}},
      {call_to("functions.now", "{\"a\":\"b\nc\"}"), {R"(now:{"a":"b\nc"})"}},
      {call_to("functions.now", R"("{\"a\":1}")"), {R"(now:{"a":1})"}},
      {call_to("functions.now", "{}}junk"), {"now:{}"}},
  });
}

TEST(HarmonyParserTest, WhatIsNoCallIsContentAsItWasWritten) {
  const std::string unknown = call_to("functions.no", "{}");
  const std::string list = call_to("functions.now", "[1]");
  expect_parsed({
      {unknown, {"c:" + unknown}},
      {list + "<|call|>", {"c:" + list}},
      {call_to("functions.now", "now"), {"c:" + call_to("functions.now", "now")}},
      {"<|channel|>analysis to=python code<|message|>1 + 1<|call|>", {"r:1 + 1"}},
  });
  ChatParser::Options options = options_of(ToolSyntax::kHarmony);
  options.tools = {};
  const std::string call = call_to("functions.get", "{}");
  EXPECT_EQ(summary(parse_chunks(call, {}, options)), Lines({"c:" + call}));
}

TEST(HarmonyParserTest, CallsThatAreCutOffAreIncomplete) {
  const std::string get = call_to("functions.get", "");
  expect_parsed({
      {get + R"({"city": "a)", {R"(get?{"city": "a)"}, true},
      {get + R"({"city": "a"})", {R"(get?{"city": "a"})"}, true},
      {get + R"({"city": "a)", {R"(get?{"city": "a)"}, false},
      {get, {"c:" + get}, true},
      {get + R"({"city": nope})", {R"(get?{"city": nope})"}, false},
  });
}

TEST(HarmonyParserTest, TheAnswerEndsWithItsTurn) {
  for (const std::string end : {"<|return|>", "<|call|>"}) {
    ChatParser parser(options_of(ToolSyntax::kHarmony));
    parser.push(call_to("functions.now", "{}") + end.substr(0, end.size() - 1));
    EXPECT_FALSE(parser.is_done());
    parser.push(">");
    EXPECT_TRUE(parser.is_done());
    EXPECT_EQ(parser.num_calls(), 1U);
    EXPECT_TRUE(parser.push("more").empty());
    EXPECT_TRUE(parser.finish(false).empty());
  }
  ChatParser::Options options = options_of(ToolSyntax::kHarmony);
  options.max_calls = 1;
  ChatParser parser(options);
  parser.push(call_to("functions.now", "{}") + "<|end|>");
  EXPECT_TRUE(parser.is_done());
}

TEST(HarmonyParserTest, AContinuedMessageIsContent) {
  ChatParser::Options options = options_of(ToolSyntax::kHarmony);
  options.starts_in_content = true;
  EXPECT_EQ(summary(parse_chunks(" to=be<|return|>", {}, options)), Lines({"c: to=be"}));
}

TEST(HarmonyParserTest, ArgumentsStream) {
  ChatParser parser(options_of(ToolSyntax::kHarmony));
  parser.push(call_to("functions.get", R"({"ci)"));
  EXPECT_EQ(parser.push("ty").front().text, "ty");
  const auto text = parser.push(R"(":"a"})");
  EXPECT_EQ(text.front().text, R"(":"a"})");
  EXPECT_EQ(text.size(), 1U);
}

TEST(HarmonyParserTest, ThinkBlocksAreAnalysisMessages) {
  const text::Tokenizer& tokenizer = harmony_tokenizer();
  const auto ids = tokenizer.encode(kAnalysis + "a b" + kNext + kFinal + "c");
  ASSERT_TRUE(ids);
  ThinkBlock think(tokenizer, false, ToolSyntax::kHarmony);
  std::string rest;
  for (const int32_t id : *ids) {
    if (!think.take(id)) rest += tokenizer.token_bytes(id);
    think.end();
  }
  EXPECT_EQ(rest, "c");
  const auto thought = tokenizer.encode(kAnalysis + "a b<|end|>");
  ASSERT_TRUE(thought);
  EXPECT_EQ(think.num_tokens(), thought->size());
}

}  // namespace
}  // namespace ultraspeed::server
