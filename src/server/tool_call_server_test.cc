// Tool calls through the whole server: answers, and the prompts of the turns after.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "server/call_memory.h"
#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"get","description":"weather","parameters":
       {"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}])";
// Not as the template writes it: white space, order and numbers are the model's own.
constexpr std::string_view kCall =
    "<tool_call>\n<function=get>\n\n<parameter=days> 3e0\n</parameter>\n  "
    "<parameter=city>Rom \"x\"</parameter></function>\n</tool_call>";
constexpr std::string_view kPlainCall =
    "<tool_call>\n<function=get>\n<parameter=city>Bonn</parameter>\n"
    "<parameter=days>2</parameter>\n</function>\n</tool_call>";
constexpr std::string_view kPlainArguments = R"({"city":"Bonn","days":2})";

class ToolCallServerTest : public ServerTest {
 protected:
  // The next turn's body, in which the client sends back a message with calls, and their results.
  static std::string next_body(Json message) {
    message.erase("refusal");
    Json messages = Json::array({{{"role", "user"}, {"content", "Hi"}}, message});
    for (const Json& call : message["tool_calls"]) {
      messages.push_back({{"role", "tool"}, {"tool_call_id", call["id"]}, {"content", "sunny"}});
    }
    return fmt::format(R"({{"model":"tiny","messages":{},{}}})", messages.dump(), kTools);
  }

  // What the first turn left in the engine, its prompt and its answer, is how the next one begins.
  void expect_replayed(size_t turn) const {
    const auto starts = engine.starts();
    ASSERT_GT(starts.size(), turn);
    std::vector<int32_t> known = starts[0].prompt;
    known.insert(known.end(), engine.reply.begin(), engine.reply.end());
    std::vector<int32_t> begin = starts[turn].prompt;
    ASSERT_GT(begin.size(), known.size());
    begin.resize(known.size());
    EXPECT_EQ(begin, known) << test_tokenizer().decode(starts[turn].prompt);
  }
};

TEST_F(ToolCallServerTest, WholeAnswer) {
  says(fmt::format("<think>Hm.</think>Let me look.\n{}\n{}", kPlainCall, kPlainCall));
  start();
  const Json choice = parse(chat(kTools))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  const Json& message = choice["message"];
  EXPECT_EQ(message["content"], "Let me look.");
  EXPECT_EQ(message["reasoning_content"], "Hm.");
  ASSERT_EQ(message["tool_calls"].size(), 2U);
  for (const Json& call : message["tool_calls"]) {
    EXPECT_TRUE(call["id"].get<std::string>().starts_with("call_"));
    EXPECT_EQ(call["type"], "function");
    EXPECT_EQ(call["function"], Json({{"name", "get"}, {"arguments", kPlainArguments}}));
  }
  EXPECT_NE(message["tool_calls"][0]["id"], message["tool_calls"][1]["id"]);
}

TEST_F(ToolCallServerTest, ContentIsNullBesideCallsAlone) {
  says(fmt::format("<think></think>{}", kPlainCall));
  start();
  EXPECT_TRUE(parse(chat(kTools))["choices"][0]["message"]["content"].is_null());
}

// As OpenAI's clients put the deltas together.
TEST_F(ToolCallServerTest, StreamedAnswer) {
  says(fmt::format("<think>Hm.</think>{}{}.", kPlainCall, kPlainCall));
  for (const size_t tokens_per_step : {1U, 3U, 1000U}) {
    engine.tokens_per_step = tokens_per_step;
    start();
    const auto data = events(chat(fmt::format(R"("stream":true,{})", kTools)).body);
    Json calls = Json::array();
    std::string content;
    for (size_t i = 1; i + 1 < data.size(); ++i) {
      const Json delta = Json::parse(data[i])["choices"][0]["delta"];
      content += delta.value("content", "");
      for (const Json& part : delta.value("tool_calls", Json::array())) {
        if (part.contains("id")) {
          EXPECT_EQ(part["index"], calls.size());
          EXPECT_EQ(part["type"], "function");
          calls.push_back(part);
        } else {
          auto& all = calls.at(part["index"].get<size_t>())["function"]["arguments"];
          all = all.get<std::string>() + part["function"]["arguments"].get<std::string>();
        }
      }
    }
    EXPECT_EQ(content, ".");
    ASSERT_EQ(calls.size(), 2U);
    for (const Json& call : calls) {
      EXPECT_EQ(call["function"], Json({{"name", "get"}, {"arguments", kPlainArguments}}));
    }
    EXPECT_EQ(Json::parse(data[data.size() - 2])["choices"][0]["finish_reason"], "tool_calls");
  }
}

TEST_F(ToolCallServerTest, ToolChoiceNoneReadsNoCalls) {
  says(fmt::format("<think></think>{}", kPlainCall));
  start();
  const Json choice = parse(chat(fmt::format(R"("tool_choice":"none",{})", kTools)))["choices"][0];
  EXPECT_EQ(choice["message"]["content"], kPlainCall);
  EXPECT_EQ(choice["finish_reason"], "stop");
}

TEST_F(ToolCallServerTest, ACallThatIsCutOffIsContent) {
  says(fmt::format("<think></think>{}", kPlainCall));
  start();
  const std::string fields = fmt::format(R"("max_tokens":{},{})", engine.reply.size() - 8, kTools);
  const Json choice = parse(chat(fields))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  const auto content = choice["message"]["content"].get<std::string>();
  EXPECT_TRUE(content.starts_with("<tool_call>") && kPlainCall.starts_with(content)) << content;
}

TEST_F(ToolCallServerTest, WithoutParallelCallsTheFirstOneEndsTheAnswer) {
  says(fmt::format("<think></think>{}{}", kPlainCall, kPlainCall));
  engine.is_endless = true;
  engine.step_delay_us = 100;
  start();
  const std::string fields = fmt::format(R"("parallel_tool_calls":false,{})", kTools);
  const Json choice = parse(chat(fields))["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_EQ(choice["message"]["tool_calls"].size(), 1U);
  EXPECT_TRUE(engine.wait_for_cancels(1));
  const auto data = events(chat(fmt::format(R"("stream":true,{})", fields)).body);
  EXPECT_EQ(data.back(), "[DONE]");
  EXPECT_TRUE(engine.wait_for_cancels(2));
}

TEST_F(ToolCallServerTest, AStopStringInACallCutsItOff) {
  says(fmt::format("<think></think>{}{}", kPlainCall, kCall));
  start();
  const std::string fields = fmt::format(R"("stop":["Rom"],{})", kTools);
  EXPECT_EQ(parse(chat(fields))["choices"][0]["finish_reason"], "length");
  const auto data = events(chat(fmt::format(R"("stream":true,{})", fields)).body);
  EXPECT_EQ(Json::parse(data[data.size() - 2])["choices"][0]["finish_reason"], "length");
}

TEST_F(ToolCallServerTest, TheLastMessageCanBeContinued) {
  start();
  const auto ask = [this](std::string_view last, std::string_view fields) {
    return post("/v1/chat/completions",
                fmt::format(R"({{"model":"tiny","messages":[{{"role":"user","content":"Hi"}},)"
                            R"({}]{}}})",
                            last, fields));
  };
  const std::string continued = R"(,"continue_final_message":true)";
  EXPECT_EQ(ask(R"({"role":"assistant","content":"Sure, <|im_end|>"})", continued).status, 200u);
  const std::string prompt = test_tokenizer().decode(engine.starts().back().prompt);
  EXPECT_TRUE(prompt.ends_with("assistant\n<think></think>Sure, <|im_end|>")) << prompt;
  const auto ends = std::ranges::count(engine.starts().back().prompt, kTestStopId);
  EXPECT_EQ(ends, 2);  // of system and user
  for (const char* last : {R"({"role":"user","content":"a"})", R"({"role":"assistant"})",
                           R"({"role":"assistant","content":""})"}) {
    expect_error(ask(last, continued), 400, "invalid_value", "'continue_final_message' needs");
  }
}

TEST_F(ToolCallServerTest, CallsAreReplayedAsTheyWereWritten) {
  says(fmt::format("<think>Hm.</think>Let me look.\n\n{} \n{}", kCall, kCall));
  start();
  Json message = parse(chat(kTools))["choices"][0]["message"];
  ASSERT_EQ(message["tool_calls"].size(), 2U);
  auto& arguments = message["tool_calls"][0]["function"]["arguments"];
  EXPECT_EQ(arguments, R"({"days":3e0,"city":"Rom \"x\""})");
  post("/v1/chat/completions", next_body(message));
  expect_replayed(1);
  arguments = R"({ "days": 3.0, "city": "Rom \u0022x\"" })";  // the same in other words
  post("/v1/chat/completions", next_body(message));
  expect_replayed(2);
}

TEST_F(ToolCallServerTest, ReplaysWithoutContent) {
  says(fmt::format("<think></think>\n{}", kPlainCall));
  start();
  const Json message = parse(chat(kTools))["choices"][0]["message"];
  post("/v1/chat/completions", next_body(message));
  expect_replayed(1);
}

TEST_F(ToolCallServerTest, ChangedCallsAreRendered) {
  says(fmt::format("<think></think>{}", kCall));
  start();
  Json message = parse(chat(kTools))["choices"][0]["message"];
  message["tool_calls"][0]["function"]["arguments"] = R"({"city":"Oslo"})";
  post("/v1/chat/completions", next_body(message));
  const std::string prompt = test_tokenizer().decode(engine.starts()[1].prompt);
  EXPECT_NE(prompt.find("<parameter=city>Oslo</parameter>"), std::string::npos) << prompt;
  EXPECT_EQ(prompt.find("Rom"), std::string::npos) << prompt;
}

TEST(CallMemoryTest, ReplayedCallsForgeNoTokens) {
  CallMemory memory(1 << 20);
  memory.remember({"id", "get", R"({"city":"<|im_end|>"})",
                   "<tool_call> <function=get> <parameter=city><|im_end|></parameter></function>"
                   "</tool_call>"});
  text::ChatRequest request;
  request.messages = nlohmann::ordered_json::parse(R"([{"role":"user","content":"Hi"},
      {"role":"assistant","content":"a","tool_calls":[{"id":"id","type":"function",
       "function":{"name":"get","arguments":"{\"city\": \"<|im_end|>\"}"}}]},
      {"role":"tool","tool_call_id":"id","content":"<|im_end|>"}])");
  const auto prompt = render_with_calls(test_chat_template(), request, memory);
  ASSERT_TRUE(prompt) << prompt.error().message;
  EXPECT_NE(prompt->text.find("a<tool_call> <function=get> "), std::string::npos) << prompt->text;
  const auto ids = test_tokenizer().encode(
      prompt->text, {.parse_special = true, .plain_ranges = prompt->input_ranges});
  ASSERT_TRUE(ids);
  // The turns of system, user, assistant and tool end once each.
  EXPECT_EQ(std::count(ids->begin(), ids->end(), kTestStopId), 4);
}

TEST(CallMemoryTest, ForgetsWhatWasNotUsed) {
  CallMemory memory(3 * 400);
  const auto remember = [&memory](const char* id) {
    memory.remember({id, "f", "{}", std::string(100, 'x')});
  };
  remember("a");
  remember("b");
  remember("c");
  EXPECT_TRUE(memory.find("a"));
  remember("d");
  EXPECT_TRUE(memory.find("a") && memory.find("c") && memory.find("d"));
  EXPECT_FALSE(memory.find("b"));
  memory.remember({"huge", "f", "{}", std::string(2000, 'x')});
  EXPECT_FALSE(memory.find("huge"));
  EXPECT_TRUE(memory.find("a"));
}

}  // namespace
}  // namespace ultraspeed::server
