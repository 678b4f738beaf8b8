// Answers in the harmony format through the whole server, on all chat routes.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "server/server_fixture.h"
#include "server/tool_syntax.h"

namespace ultraspeed::server {
namespace {

constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"get","description":"weather","parameters":
       {"type":"object","properties":{"city":{"type":"string"}}}}}])";
constexpr std::string_view kThought = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
constexpr std::string_view kCall =
    R"(<|channel|>commentary to=functions.get <|constrain|>json<|message|>{"city":"Bonn"})";
constexpr std::string_view kFinal = "<|channel|>final<|message|>Hi.";

class HarmonyServerTest : public ServerTest {
 protected:
  HarmonyServerTest() {
    const text::Tokenizer& tokenizer = harmony_tokenizer();
    model.tokenizer = &tokenizer;
    model.chat_template = &test_template("harmony");
    model.defaults.stop_ids = {id_of(kHarmonyReturn), id_of(kHarmonyCall)};
  }

  static int32_t id_of(std::string_view mark) { return *harmony_tokenizer().find_token(mark); }

  void says(const std::string& text, std::string_view stop) {
    engine.reply = harmony_tokenizer().encode(text).value_or(std::vector<int32_t>());
    engine.reply.push_back(id_of(stop));
  }
  void calls() { says(fmt::format("{}{}", kThought, kCall), kHarmonyCall); }
  void answers() { says(fmt::format("{}{}", kThought, kFinal), kHarmonyReturn); }

  std::string prompt() const { return harmony_tokenizer().decode(engine.starts().back().prompt); }
};

TEST_F(HarmonyServerTest, ChatAnswer) {
  answers();
  start();
  const Json json = parse(chat());
  const Json& message = json["choices"][0]["message"];
  EXPECT_EQ(message["content"], "Hi.");
  EXPECT_EQ(message["reasoning_content"], "Hm.");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  const auto thought = harmony_tokenizer().encode("<|channel|>analysis<|message|>Hm.<|end|>");
  EXPECT_EQ(json["usage"]["completion_tokens_details"]["reasoning_tokens"], thought->size());
}

TEST_F(HarmonyServerTest, ChatCallsWholeAndStreamed) {
  calls();
  start();
  const Json choice = parse(chat(kTools))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"],
            Json({{"name", "get"}, {"arguments", R"({"city":"Bonn"})"}}));
  for (const size_t tokens_per_step : {1U, 3U, 1000U}) {
    engine.tokens_per_step = tokens_per_step;
    const auto data = events(chat(fmt::format(R"("stream":true,{})", kTools)).body);
    std::string reasoning;
    std::string arguments;
    for (size_t i = 1; i + 1 < data.size(); ++i) {
      const Json delta = Json::parse(data[i])["choices"][0]["delta"];
      EXPECT_FALSE(delta.contains("content"));
      reasoning += delta.value("reasoning_content", "");
      for (const Json& part : delta.value("tool_calls", Json::array())) {
        arguments += part["function"]["arguments"].get<std::string>();
      }
    }
    EXPECT_EQ(reasoning, "Hm.");
    EXPECT_EQ(arguments, R"({"city":"Bonn"})");
    EXPECT_EQ(Json::parse(data[data.size() - 2])["choices"][0]["finish_reason"], "tool_calls");
  }
}

TEST_F(HarmonyServerTest, Messages) {
  calls();
  start();
  const std::string body =
      R"({"model":"tiny","max_tokens":100,"messages":[{"role":"user","content":"Hi"}],
          "tools":[{"name":"get","input_schema":{"type":"object"}}]})";
  const Json json = parse(post("/v1/messages", body));
  EXPECT_EQ(json["stop_reason"], "tool_use") << json;
  ASSERT_EQ(json["content"].size(), 2U);
  EXPECT_EQ(json["content"][0]["thinking"], "Hm.");
  EXPECT_EQ(json["content"][1]["input"], Json({{"city", "Bonn"}}));
}

TEST_F(HarmonyServerTest, Responses) {
  const std::string body = R"({"model":"tiny","input":"Hi","tools":[{"type":"function",
      "name":"get","parameters":{"type":"object"}}]})";
  calls();
  start();
  const Json output = parse(post("/v1/responses", body))["output"];
  ASSERT_EQ(output.size(), 2U) << output;
  EXPECT_EQ(output[0]["type"], "reasoning");
  EXPECT_EQ(output[1]["type"], "function_call");
  EXPECT_EQ(output[1]["arguments"], R"({"city":"Bonn"})");
}

TEST_F(HarmonyServerTest, TheNextTurnIsRenderedByTheTemplate) {
  answers();
  start();
  const std::string messages = R"([{"role":"user","content":"Hi <|end|>"},
      {"role":"assistant","content":null,"reasoning_content":"Hm.","tool_calls":[{"id":"a",
       "type":"function","function":{"name":"get","arguments":"{\"city\":\"Bonn\"}"}}]},
      {"role":"tool","tool_call_id":"a","content":"sunny"}])";
  const std::string body = fmt::format(
      R"({{"model":"tiny","reasoning_effort":"minimal","messages":{},{}}})", messages, kTools);
  EXPECT_EQ(post("/v1/chat/completions", body).status, 200U);
  const std::string text = prompt();
  EXPECT_NE(text.find("Reasoning: low"), std::string::npos);
  EXPECT_TRUE(text.ends_with(
      "<|start|>user<|message|>Hi <|end|><|end|>"
      "<|start|>assistant<|channel|>analysis<|message|>Hm.<|end|>"
      "<|start|>assistant to=functions.get<|channel|>commentary json<|message|>"
      "{\"city\": \"Bonn\"}<|call|>"
      "<|start|>functions.get to=assistant<|channel|>commentary<|message|>\"sunny\"<|end|>"
      "<|start|>assistant"))
      << text;
  // The user's mark is text.
  const auto ids = engine.starts().back().prompt;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), id_of(kHarmonyEnd)), 5) << text;
}

TEST_F(HarmonyServerTest, TheFinalMessageCanBeContinued) {
  says(" there.", kHarmonyReturn);
  start();
  const std::string body = R"({"model":"tiny","continue_final_message":true,"messages":[
      {"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]})";
  const Json message = parse(post("/v1/chat/completions", body))["choices"][0]["message"];
  EXPECT_EQ(message["content"], " there.");
  EXPECT_TRUE(prompt().ends_with("<|channel|>final<|message|>Hello"));
}

TEST_F(HarmonyServerTest, WhatIsNotBuiltIsRefused) {
  answers();
  start();
  expect_error(chat(R"("best_of":2,"best_of_mode":"judge")"), 400, "unsupported_value",
               "answers in channels");
}

TEST_F(HarmonyServerTest, GrammarsAreTaken) {
  answers();
  start();
  EXPECT_EQ(chat(R"("response_format":{"type":"json_object"})").status, 200U);
  EXPECT_NE(engine.starts().back().params.sampling.constraint, nullptr);
  EXPECT_EQ(chat(fmt::format(R"("tool_choice":"required",{})", kTools)).status, 200U);
}

}  // namespace
}  // namespace ultraspeed::server
