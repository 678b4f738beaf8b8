// Anthropic's API through the whole server: /v1/messages and /v1/messages/count_tokens.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

constexpr std::string_view kGetTool =
    R"("tools":[{"name":"get","description":"weather","input_schema":
       {"type":"object","properties":{"city":{"type":"string"}}}}])";
constexpr std::string_view kGetCall =
    "<tool_call>\n<function=get>\n<parameter=city>Bonn</parameter></function>\n</tool_call>";

class MessagesServerTest : public ServerTest {
 protected:
  static std::string body(std::string_view fields = {}) {
    return fmt::format(
        R"({{"model":"tiny","max_tokens":500,"messages":[{{"role":"user","content":"Hi"}}]{}{}}})",
        fields.empty() ? "" : ",", fields);
  }
  net::TestResponse messages(std::string_view fields = {}) const {
    return post("/v1/messages", body(fields));
  }
  std::string last_prompt() const { return test_tokenizer().decode(engine.starts().back().prompt); }

  // The message that a stream builds up, as Anthropic's clients put it together.
  static Json joined(const std::vector<Json>& all) {
    Json message;
    std::string input;
    bool is_open = false;
    for (const Json& event : all) {
      const std::string type = event["type"];
      if (type == "message_start") message = event["message"];
      if (type == "content_block_start") {
        EXPECT_FALSE(std::exchange(is_open, true));
        EXPECT_EQ(event["index"], message["content"].size());
        message["content"].push_back(event["content_block"]);
        input.clear();
      }
      if (type == "content_block_delta") {
        Json& block = message["content"].back();
        for (const auto& [name, text] : event["delta"].items()) {
          if (name == "type" || text.is_null()) continue;
          if (name == "partial_json") {
            input += text.get<std::string>();
          } else {
            block[name] = block[name].get<std::string>() + text.get<std::string>();
          }
        }
      }
      if (type == "content_block_stop") {
        EXPECT_TRUE(std::exchange(is_open, false));
        if (!input.empty()) message["content"].back()["input"] = Json::parse(input);
      }
      if (type == "message_delta") {
        message.update(event["delta"]);
        message["usage"] = event["usage"];
        message["timings"] = event["timings"];
      }
    }
    EXPECT_EQ(all.back()["type"], "message_stop");
    return message;
  }

  static void expect_messages_error(const net::TestResponse& response, unsigned status,
                                    std::string_view type, std::string_view message_part) {
    EXPECT_EQ(response.status, status) << response.body;
    const Json json = parse(response);
    EXPECT_EQ(json["type"], "error") << response.body;
    EXPECT_EQ(json["error"]["type"], type) << response.body;
    EXPECT_NE(json["error"].value("message", "").find(message_part), std::string::npos)
        << response.body;
    EXPECT_EQ(json["request_id"], response.headers.at("x-request-id"));
    EXPECT_EQ(json["request_id"], response.headers.at("request-id"));
  }
};

TEST_F(MessagesServerTest, WholeAnswer) {
  says("<think>Hm.</think>Hello.");
  start();
  const Json json = parse(messages());
  EXPECT_TRUE(json["id"].get<std::string>().starts_with("msg_"));
  EXPECT_EQ(json["type"], "message");
  EXPECT_EQ(json["role"], "assistant");
  EXPECT_EQ(json["model"], "tiny");
  const Json thinking = {{"type", "thinking"}, {"thinking", "Hm."}, {"signature", "ultraspeed"}};
  const Json text = {{"type", "text"}, {"citations", nullptr}, {"text", "Hello."}};
  EXPECT_EQ(json["content"], Json::array({thinking, text}));
  EXPECT_EQ(json["stop_reason"], "end_turn");
  EXPECT_TRUE(json["stop_sequence"].is_null());
  EXPECT_EQ(json["usage"]["input_tokens"], engine.starts()[0].prompt.size());
  EXPECT_EQ(json["usage"]["output_tokens"], engine.reply.size());
  EXPECT_EQ(json["usage"]["cache_read_input_tokens"], 0);
  EXPECT_EQ(json["usage"]["cache_creation_input_tokens"], 0);
}

TEST_F(MessagesServerTest, InputTokensAreThoseThatNoCacheHeld) {
  says("Hello.");
  engine.cached_tokens = 5;
  start();
  const size_t prompt_size = [&] {
    parse(messages());
    return engine.starts()[0].prompt.size();
  }();
  const Json streamed = joined(named_events(messages(R"("stream":true)").body));
  for (const Json& message : {parse(messages()), streamed}) {
    EXPECT_EQ(message["usage"]["input_tokens"], prompt_size - 5);
    EXPECT_EQ(message["usage"]["cache_read_input_tokens"], 5);
  }
}

TEST_F(MessagesServerTest, StreamsBuildUpTheWholeAnswer) {
  says(fmt::format("<think>Hm.</think>Let me look.\n{}{}Done", kGetCall, kGetCall));
  for (const size_t tokens_per_step : {1U, 3U, 1000U}) {
    engine.tokens_per_step = tokens_per_step;
    start();
    const net::TestResponse response = messages(fmt::format(R"("stream":true,{})", kGetTool));
    EXPECT_EQ(response.headers.at("content-type"), "text/event-stream");
    const std::vector<Json> all = named_events(response.body);
    EXPECT_EQ(all[0]["type"], "message_start");
    EXPECT_EQ(all[0]["message"]["usage"]["input_tokens"], engine.starts().back().prompt.size());
    EXPECT_EQ(all[1]["type"], "ping");
    Json streamed = joined(all);
    Json whole = parse(messages(kGetTool));
    EXPECT_EQ(streamed["content"].size(), 5U);
    for (Json* message : {&streamed, &whole}) {
      message->erase("id");
      EXPECT_GE((*message)["timings"]["prefill_ms"], 0) << *message;
      message->erase("timings");
      for (Json& block : (*message)["content"]) block.erase("id");
    }
    EXPECT_EQ(nlohmann::json(streamed), nlohmann::json(whole));
  }
}

TEST_F(MessagesServerTest, CallsTools) {
  says(fmt::format("<think></think>{}", kGetCall));
  start();
  const Json json = parse(messages(kGetTool));
  EXPECT_EQ(json["stop_reason"], "tool_use");
  ASSERT_EQ(json["content"].size(), 1U);
  const Json& call = json["content"][0];
  EXPECT_EQ(call["type"], "tool_use");
  EXPECT_TRUE(call["id"].get<std::string>().starts_with("toolu_"));
  EXPECT_EQ(call["name"], "get");
  EXPECT_EQ(call["input"], Json({{"city", "Bonn"}}));
  EXPECT_NE(last_prompt().find("<name>get</name>"), std::string::npos) << last_prompt();
}

TEST_F(MessagesServerTest, CallsAreReplayedInTheNextTurn) {
  says(fmt::format("<think>Hm.</think>Look:{}", kGetCall));
  start();
  const Json content = parse(messages(kGetTool))["content"];
  const Json result = {{"type", "tool_result"},
                       {"tool_use_id", content[2]["id"]},
                       {"is_error", false},
                       {"content", Json::array({{{"type", "text"}, {"text", "sunny"}}})}};
  const Json turns =
      Json::array({{{"role", "user"}, {"content", "Hi"}},
                   {{"role", "assistant"}, {"content", content}},
                   {{"role", "user"},
                    {"content", Json::array({result, {{"type", "text"}, {"text", "So?"}}})}}});
  post("/v1/messages", fmt::format(R"({{"model":"tiny","max_tokens":5,"messages":{},{}}})",
                                   turns.dump(), kGetTool));
  std::vector<int32_t> known = engine.starts()[0].prompt;
  known.insert(known.end(), engine.reply.begin(), engine.reply.end());
  const std::string begin = test_tokenizer().decode(known);
  const std::string prompt = last_prompt();
  ASSERT_TRUE(prompt.starts_with(begin)) << prompt;
  EXPECT_EQ(prompt.substr(begin.size()),
            "<|im_start|>tool\n<tool_response>\nsunny\n</tool_response>\n<|im_end|>"
            "<|im_start|>user\nSo?<|im_end|><|im_start|>assistant\n");
}

TEST_F(MessagesServerTest, MapsTheRequest) {
  start();
  messages(R"("system":[{"type":"text","text":"x-anthropic-billing-header: cch=1;"},
                        {"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}],
             "temperature":0,"top_k":7,"stop_sequences":["a","b"],"metadata":{"user_id":"u"},
             "thinking":{"type":"disabled"})");
  EXPECT_TRUE(last_prompt().starts_with("<|im_start|>system\nBe brief.<|im_end|>"))
      << last_prompt();
  EXPECT_TRUE(last_prompt().ends_with("<think></think>"));
  const auto params = engine.starts().back().params;
  EXPECT_EQ(params.sampling.temperature, 0);
  EXPECT_EQ(params.sampling.top_k, 7U);
  EXPECT_EQ(params.max_tokens, 500U);
  messages(R"("system":"x-anthropic-billing-header: 2\nBe kind.","thinking":
              {"type":"enabled","budget_tokens":1024})");
  EXPECT_TRUE(last_prompt().starts_with("<|im_start|>system\nBe kind.<|im_end|>"));
  EXPECT_TRUE(last_prompt().ends_with("<|im_start|>assistant\n"));
}

TEST_F(MessagesServerTest, SaysWhyItStopped) {
  says("<think></think>one two three");
  start();
  const Json sequence = parse(messages(R"("stop_sequences":["zero","two"])"));
  EXPECT_EQ(sequence["stop_reason"], "stop_sequence");
  EXPECT_EQ(sequence["stop_sequence"], "two");
  EXPECT_EQ(sequence["content"][0]["text"], "one ");
  const Json length =
      parse(post("/v1/messages",
                 R"({"model":"tiny","max_tokens":3,"messages":[{"role":"user","content":"Hi"}]})"));
  EXPECT_EQ(length["stop_reason"], "max_tokens");
}

TEST_F(MessagesServerTest, OneCallAtATime) {
  says(fmt::format("<think></think>{}{}", kGetCall, kGetCall));
  start();
  const Json json = parse(messages(fmt::format(
      R"("tool_choice":{{"type":"auto","disable_parallel_tool_use":true}},{})", kGetTool)));
  EXPECT_EQ(json["content"].size(), 1U);
  EXPECT_EQ(json["stop_reason"], "tool_use");
}

TEST_F(MessagesServerTest, CountsTokens) {
  start();
  messages(kGetTool);
  const net::TestResponse response =
      post("/v1/messages/count_tokens",
           fmt::format(R"({{"model":"tiny","messages":[{{"role":"user","content":"Hi"}}],{}}})",
                       kGetTool));
  EXPECT_EQ(response.body, fmt::format(R"({{"input_tokens":{},"context_management":null}})",
                                       engine.starts()[0].prompt.size()));
  expect_messages_error(post("/v1/messages/count_tokens", "{}"), 400, "invalid_request_error",
                        "'messages' is missing");
}

TEST_F(MessagesServerTest, KeysMayComeAsXApiKey) {
  options.access.api_keys = {"secret"};
  start();
  expect_messages_error(messages(), 401, "authentication_error", "API key");
  EXPECT_EQ(post("/v1/messages", body(), "x-api-key: secret\r\n").status, 200U);
  EXPECT_EQ(post("/v1/messages", body(), "Authorization: Bearer secret\r\n").status, 200U);
  EXPECT_EQ(post("/v1/messages", body(), "x-api-key: other\r\n").status, 401U);
}

TEST_F(MessagesServerTest, ErrorsHaveAnthropicsForm) {
  start();
  const auto with = [this](std::string_view turns) {
    return post("/v1/messages",
                fmt::format(R"({{"model":"tiny","max_tokens":5,"messages":[{}]}})", turns));
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"role":"user"})", "'messages[0].content' is missing."},
      {"7", "'messages[0]' must be an object, not an integer."},
      {R"({"role":"bot","content":"x"})", "'messages[0].role' is 'bot'"},
      {R"({"role":"bot","content":[]})", "'messages[0].role' is 'bot'"},
      {R"({"role":"user","content":7})", "'messages[0].content' must be a string or an array"},
      {R"({"role":"user","content":[7]})", "'messages[0].content[0]' must be an object"},
      {R"({"role":"user","content":[{"type":"image"}]})", "a block of type 'image'"},
      {R"({"role":"user","content":[{"type":"text"}]})",
       "'messages[0].content[0].text' is missing"},
      {R"({"role":"user","content":[{"type":"tool_result"}]})", "tool_use_id' is missing"},
      {R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"a",
          "content":[{"type":"image"}]}]})",
       "'messages[0].content[0].content[0]' is a block of type 'image'"},
      {R"({"role":"assistant","content":[{"type":"tool_use","id":"a"}]})", "name' is missing"},
      {R"({"role":"assistant","content":[{"type":"tool_use","id":"a","name":"b","input":1}]})",
       "input' must be an object"},
  };
  for (const auto& [turn, message] : cases) {
    expect_messages_error(with(turn), 400, "invalid_request_error", message);
  }
  for (const char* empty : {"[]", R"([{"type":"text","text":""}])"}) {
    expect_messages_error(with(fmt::format(R"({{"role":"user","content":{}}})", empty)), 400,
                          "invalid_request_error", "has no text and no tool_result");
  }
  expect_messages_error(post("/v1/messages", R"({"model":"tiny","messages":[]})"), 400,
                        "invalid_request_error", "'max_tokens' is missing.");
  expect_messages_error(post("/v1/messages", "{"), 400, "invalid_request_error", "not valid JSON");
  expect_messages_error(messages(R"("model":"other")"), 404, "not_found_error", "'other'");
  expect_messages_error(messages(R"("tools":[{"type":"web_search_1","name":"w"}])"), 400,
                        "invalid_request_error", "'tools[0]' is of type 'web_search_1'");
  expect_messages_error(messages(R"("tools":[{}])"), 400, "invalid_request_error",
                        "'tools[0].name' is missing");
  expect_messages_error(messages(R"("tool_choice":{"type":"any"})"), 400, "invalid_request_error",
                        "there are no tools");
  expect_messages_error(messages(R"("tool_choice":{"type":"tool","name":"get"})"), 400,
                        "invalid_request_error", "'get', which is none of the tools");
  expect_messages_error(messages(R"("tool_choice":{"type":"all"})"), 400, "invalid_request_error",
                        "'tool_choice.type' is 'all'");
  expect_messages_error(messages(R"("stop_sequences":[1])"), 400, "invalid_request_error",
                        "'stop_sequences' must be");
  expect_messages_error(get("/v1/messages"), 405, "invalid_request_error", "does not take GET");
}

TEST_F(MessagesServerTest, AnAssistantsLastMessageIsContinued) {
  says(" indeed.");
  start();
  const Json json = parse(post("/v1/messages", R"({"model":"tiny","max_tokens":9,"messages":[
      {"role":"user","content":"Hi"},{"role":"assistant","content":[{"type":"text",
      "text":"Yes,"}]}]})"));
  EXPECT_EQ(json["content"][0]["text"], " indeed.");
  EXPECT_TRUE(last_prompt().ends_with("<think></think>Yes,")) << last_prompt();
}

TEST_F(MessagesServerTest, FieldsOfOtherApisAreIgnored) {
  says("<think></think>One two");
  start();
  const Json json = parse(messages(
      R"("max_completion_tokens":1,"stop":"One","n":2,"parallel_tool_calls":0,"logprobs":7)"));
  EXPECT_EQ(json["content"][0]["text"], "One two") << json;
  expect_messages_error(messages(R"("stop_sequences":[""])"), 400, "invalid_request_error",
                        "'stop_sequences' contains an empty string");
  expect_messages_error(
      messages(R"("output_config":{"format":{"type":"json_schema","schema":{"type":"strin"}}})"),
      400, "invalid_request_error", "there is no type");
  expect_messages_error(messages(R"("output_config":{"format":{"type":"json_schema"}})"), 400,
                        "invalid_request_error", "'output_config.format' must be");
}

TEST_F(MessagesServerTest, FailedToolsSaySo) {
  start();
  post("/v1/messages", R"({"model":"tiny","max_tokens":9,"messages":[{"role":"user",
      "content":"Hi"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f",
      "input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a",
      "is_error":true,"content":"no file"}]}]})");
  EXPECT_NE(last_prompt().find("\nError: no file\n"), std::string::npos) << last_prompt();
}

// A client that gets this detail sends the whole conversation instead.
TEST_F(MessagesServerTest, HoldsNoConversations) {
  start();
  const net::TestResponse response =
      messages(R"("thread":{"type":"continue","previous_message_id":"msg_1"})");
  expect_messages_error(response, 400, "invalid_request_error", "'thread' is not supported");
  EXPECT_EQ(parse(response)["error"]["details"],
            Json::parse(R"({"error_code":"thread_unsupported_request","unsupported":["thread"]})"));
  EXPECT_EQ(messages(R"("thread":null)").status, 200U);
}

TEST_F(MessagesServerTest, ThinkingMayBeLeftToTheModel) {
  start();
  for (const std::string type : {"adaptive", "between_tools"}) {
    const net::TestResponse response = messages(fmt::format(R"("thinking":{{"type":"{}"}})", type));
    EXPECT_EQ(response.status, 200U) << response.body;
  }
  expect_messages_error(messages(R"("thinking":{"type":"never"})"), 400, "invalid_request_error",
                        "'thinking.type' is 'never'");
}

// As agents send them: a parameter that may be of several types, or of any.
TEST_F(MessagesServerTest, ParametersOfToolsNeedNoType) {
  start();
  const net::TestResponse response = messages(
      R"("tools":[{"name":"get","input_schema":{"type":"object","properties":
          {"a":{"anyOf":[{"type":"string"},{"type":"number"}]},"b":{}}}}])");
  EXPECT_EQ(response.status, 200U) << response.body;
}

TEST_F(MessagesServerTest, ErrorsInAStreamAreEvents) {
  engine.is_endless = true;
  engine.step_delay_us = 1000;
  start();
  Client client(server->port());
  client.post("/v1/messages", body(R"("stream":true)"));
  const net::TestResponse head = client.read_head();
  EXPECT_TRUE(client.read_chunk().value_or("").starts_with("event: message_start\n"));
  engine.fails_steps = true;
  std::string rest;
  while (const auto chunk = client.read_chunk()) rest += *chunk;
  const Json error = named_events(rest).back();
  EXPECT_EQ(error["type"], "error");
  EXPECT_EQ(error["error"]["type"], "api_error");
  EXPECT_EQ(error["request_id"], head.headers.at("request-id"));
}

TEST_F(MessagesServerTest, ModelsHaveTheFormOfTheClientsApi) {
  start();
  const auto ask = [this](std::string_view path) {
    Client client(server->port());
    client.send(
        fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n"
                    "anthropic-version: 2023-06-01\r\n\r\n",
                    path));
    return client.read_response();
  };
  const Json list = parse(ask("/v1/models"));
  EXPECT_EQ(list["has_more"], false);
  EXPECT_EQ(list["first_id"], "tiny");
  EXPECT_EQ(list["last_id"], "tiny");
  ASSERT_EQ(list["data"].size(), 1U);
  const Json served = parse(ask("/v1/models/tiny"));
  EXPECT_EQ(served, list["data"][0]);
  EXPECT_EQ(served["type"], "model");
  EXPECT_EQ(served["id"], "tiny");
  EXPECT_EQ(served["display_name"], "tiny");
  EXPECT_EQ(served["max_input_tokens"], engine.context);
  const std::string created = served["created_at"];
  EXPECT_TRUE(created.starts_with("20") && created.ends_with("Z") && created.size() == 20)
      << created;
  expect_messages_error(ask("/v1/models/other"), 404, "not_found_error", "'other'");
  EXPECT_EQ(get("/v1/models").headers.count("request-id"), 0U);
}

TEST_F(MessagesServerTest, UsageNamesTheTierIfTheRequestDid) {
  start();
  const auto expect_tier = [&](std::string_view fields, const Json& tier, const Json& speed) {
    const std::string streamed = fmt::format(R"("stream":true{})", fields);
    for (const Json& message : {parse(messages(fields.empty() ? fields : fields.substr(1))),
                                joined(named_events(messages(streamed).body))}) {
      EXPECT_EQ(message["usage"]["service_tier"], tier) << fields;
      EXPECT_EQ(message["usage"]["speed"], speed) << fields;
    }
  };
  expect_tier("", nullptr, nullptr);
  expect_tier(R"(,"speed":"fast")", "priority", "fast");
  expect_tier(R"(,"speed":"standard")", nullptr, "standard");
  expect_tier(R"(,"service_tier":"auto")", "standard", nullptr);
  expect_tier(R"(,"service_tier":"standard_only")", "standard", nullptr);
  expect_messages_error(messages(R"("speed":"warp")"), 400, "invalid_request_error",
                        "'speed' is 'warp'; it must be one of standard, fast.");
}

TEST_F(MessagesServerTest, StrictToolsAreKeptToOrRefused) {
  start();
  expect_messages_error(messages(R"("tool_choice":{"type":"any"},"tools":[{"name":"get",
          "strict":true,"input_schema":{"type":"object","properties":{"a":{"not":{}}}}}])"),
                        400, "invalid_request_error", "#/properties/a/not");
}

}  // namespace
}  // namespace ultraspeed::server
