// Answers of the server: both routes, streamed and not, and what reaches the engine.
#include "server/server.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

TEST_F(ServerTest, ListsTheModel) {
  start();
  EXPECT_EQ(get("/health").body, R"({"status":"ok"})");
  const Json list = parse(get("/v1/models"));
  EXPECT_EQ(list["object"], "list");
  EXPECT_EQ(list["data"][0]["id"], "tiny");
  EXPECT_EQ(list["data"][0]["object"], "model");
  EXPECT_EQ(list["data"][0]["max_model_len"], 1000);
  EXPECT_EQ(parse(get("/v1/models/tiny")), list["data"][0]);
  expect_error(get("/v1/models/other"), 404, "model_not_found", "'other'");
  EXPECT_EQ(server->url(), fmt::format("http://127.0.0.1:{}", server->port()));
}

TEST_F(ServerTest, SaysItsVersion) {
  start();
  EXPECT_EQ(get("/version").body, R"({"version":"0.1"})");
}

TEST_F(ServerTest, Tokenizes) {
  start();
  const Json ids = test_ids("Once <|im_end|>");
  const Json json =
      parse(post("/tokenize", R"({"model":"tiny","prompt":"Once <|im_end|>","x":1})"));
  EXPECT_EQ(json, Json({{"count", ids.size()},
                        {"max_model_len", 1000},
                        {"tokens", ids},
                        {"token_strs", nullptr}}));
  const Json strings =
      parse(post("/tokenize", R"({"prompt":"Once <|im_end|>","return_token_strs":true})"));
  std::string joined;
  for (const Json& token : strings["token_strs"]) joined += token.get<std::string>();
  EXPECT_EQ(joined, "Once <|im_end|>");
  EXPECT_EQ(post("/detokenize", fmt::format(R"({{"tokens":{}}})", ids.dump())).body,
            R"({"prompt":"Once <|im_end|>"})");
  expect_error(post("/tokenize", "{}"), 400, "invalid_value", "'prompt' is missing");
  expect_error(post("/tokenize", R"({"model":"other"})"), 404, "model_not_found", "'other'");
  expect_error(post("/detokenize", "{}"), 400, "invalid_value", "'tokens' is missing");
  expect_error(post("/detokenize", R"({"tokens":[-1]})"), 400, "invalid_value", "'tokens[0]'");
  EXPECT_EQ(post("/detokenize", R"({"tokens":[]})").body, R"({"prompt":""})");
}

TEST_F(ServerTest, TokenizesAChat) {
  start();
  chat();
  const Json messages = Json::parse(chat_body())["messages"];
  const auto tokens = [&](std::string_view fields) {
    return parse(post("/tokenize",
                      fmt::format(R"({{"messages":{}{}}})", messages.dump(), fields)))["tokens"];
  };
  EXPECT_EQ(tokens(""), Json(engine.starts()[0].prompt));
  EXPECT_LT(tokens(R"(,"add_generation_prompt":false)").size(), engine.starts()[0].prompt.size());
}

TEST_F(ServerTest, ModelNamesMayHaveSlashes) {
  model.name = "org/tiny";
  start();
  EXPECT_EQ(get("/v1/models/org/tiny").status, 200U);
  EXPECT_EQ(get("/v1/models/org%2Ftiny").status, 200U);
}

TEST_F(ServerTest, Completes) {
  engine.cached_tokens = 1;
  start();
  const net::TestResponse response = complete();
  EXPECT_EQ(response.status, 200U);
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
  const Json json = parse(response);
  EXPECT_TRUE(json["id"].get<std::string>().starts_with("cmpl-"));
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_GT(json["created"], 1'600'000'000);
  EXPECT_TRUE(json["system_fingerprint"].is_string());
  const Json choice = {
      {"index", 0}, {"text", "Hello, world."}, {"logprobs", nullptr}, {"finish_reason", "stop"}};
  EXPECT_EQ(json["choices"], Json::array({choice}));
  const size_t prompt = test_ids("Once").size();
  const size_t completion = engine.reply.size();  // the stop token counts
  EXPECT_EQ(json["usage"], Json({{"prompt_tokens", prompt},
                                 {"completion_tokens", completion},
                                 {"total_tokens", prompt + completion},
                                 {"prompt_tokens_details", {{"cached_tokens", 1}}}}));
}

TEST_F(ServerTest, PassesTheRequestToTheEngine) {
  start();
  complete();
  complete(R"("temperature":0,"top_k":5,"seed":42,"max_tokens":3,"ignore_eos":true)");
  complete();
  const auto starts = engine.starts();
  ASSERT_EQ(starts.size(), 3U);
  EXPECT_EQ(starts[0].prompt, test_ids("Once"));
  EXPECT_EQ(starts[0].params.sampling.temperature, 0.6F);
  EXPECT_EQ(starts[0].params.stop_ids, (std::vector<int32_t>{kTestStopId, 0}));
  EXPECT_EQ(starts[1].params.sampling.temperature, 0);
  EXPECT_EQ(starts[1].params.sampling.top_k, 5U);
  EXPECT_EQ(starts[1].params.sampling.seed, 42U);
  EXPECT_EQ(starts[1].params.max_tokens, 3U);
  EXPECT_TRUE(starts[1].params.ignore_eos);
  EXPECT_NE(starts[0].params.sampling.seed, starts[2].params.sampling.seed);
}

TEST_F(ServerTest, GreedyModelsDecodeGreedily) {
  model.defaults.sampling.temperature = 0;
  start();
  complete();
  EXPECT_EQ(engine.starts()[0].params.sampling.temperature, 0);
}

TEST_F(ServerTest, LengthIsAFinishReason) {
  start();
  const Json json = parse(complete(R"("max_tokens":2)"));
  EXPECT_EQ(json["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["completion_tokens"], 2);
}

TEST_F(ServerTest, StreamsACompletion) {
  engine.tokens_per_step = 2;
  start();
  const net::TestResponse response =
      complete(R"("stream":true,"stream_options":{"include_usage":true})");
  EXPECT_EQ(response.headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(response.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(response.headers.at("x-accel-buffering"), "no");
  const auto data = events(response.body);
  const size_t num_steps = (engine.reply.size() + 1) / 2;
  // The last step may have brought the stop token alone. Then the end, the usage and [DONE].
  EXPECT_GE(data.size(), num_steps + 2);
  EXPECT_LE(data.size(), num_steps + 3);
  std::string text;
  for (size_t i = 0; i + 2 < data.size(); ++i) {
    const Json chunk = Json::parse(data[i]);
    text += chunk["choices"][0]["text"];
    EXPECT_TRUE(chunk["usage"].is_null());
    const bool is_last = i + 3 == data.size();
    EXPECT_EQ(chunk["choices"][0]["finish_reason"], is_last ? Json("stop") : Json());
  }
  EXPECT_EQ(text, "Hello, world.");
  const Json usage = Json::parse(data[data.size() - 2]);
  EXPECT_TRUE(usage["choices"].empty());
  EXPECT_EQ(usage["usage"]["completion_tokens"], engine.reply.size());
  EXPECT_EQ(data.back(), "[DONE]");
}

TEST_F(ServerTest, FirstTextArrivesBeforeTheEnd) {
  engine.is_endless = true;
  engine.step_delay_us = 2000;
  start();
  Client client(server->port());
  client.post("/v1/completions", completion_body(R"("stream":true,"max_tokens":200)"));
  client.read_head();
  EXPECT_TRUE(client.read_chunk().value_or("").starts_with("data: {"));
  EXPECT_EQ(engine.num_active(), 1U);
}

TEST_F(ServerTest, Chats) {
  says("<think>Let me see.</think>Hi! 1 < 2");
  start();
  const Json json = parse(chat());
  EXPECT_TRUE(json["id"].get<std::string>().starts_with("chatcmpl-"));
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["choices"][0]["message"], Json({{"role", "assistant"},
                                                 {"content", "Hi! 1 < 2"},
                                                 {"reasoning_content", "Let me see."},
                                                 {"refusal", nullptr}}));
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  const size_t reasoning = test_ids("<think>Let me see.</think>").size();
  EXPECT_EQ(json["usage"]["completion_tokens_details"]["reasoning_tokens"], reasoning);
  const std::vector<std::string> streamed =
      events(chat(R"("n":2,"stream":true,"stream_options":{"include_usage":true})").body);
  const Json last = Json::parse(streamed[streamed.size() - 2]);
  EXPECT_EQ(last["usage"]["completion_tokens_details"]["reasoning_tokens"], 2 * reasoning);
  const std::string prompt = test_tokenizer().decode(engine.starts()[0].prompt);
  EXPECT_TRUE(prompt.ends_with("<|im_start|>user\nHi<|im_end|><|im_start|>assistant\n")) << prompt;
}

TEST_F(ServerTest, StreamsAChat) {
  says("<think>Let me see.</think>Hi! 1 < 2");
  start();
  const auto data = events(chat(R"("stream":true)").body);
  ASSERT_GE(data.size(), 5U);
  EXPECT_EQ(Json::parse(data[0])["choices"][0]["delta"],
            Json({{"role", "assistant"}, {"content", ""}}));
  std::string reasoning;
  std::string content;
  for (size_t i = 1; i + 1 < data.size(); ++i) {
    const Json chunk = Json::parse(data[i]);
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    EXPECT_FALSE(chunk.contains("usage"));
    const Json& delta = chunk["choices"][0]["delta"];
    reasoning += delta.value("reasoning_content", "");
    content += delta.value("content", "");
  }
  EXPECT_EQ(reasoning, "Let me see.");
  EXPECT_EQ(content, "Hi! 1 < 2");
  EXPECT_EQ(Json::parse(data[data.size() - 2])["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(data.back(), "[DONE]");
}

TEST_F(ServerTest, ThinkingCanBeSwitchedOff) {
  start();
  chat(R"("thinking":{"type":"disabled"})");
  const std::string prompt = test_tokenizer().decode(engine.starts()[0].prompt);
  EXPECT_TRUE(prompt.ends_with("assistant\n<think></think>")) << prompt;
}

TEST_F(ServerTest, SpecialTokensInMessagesArePlainText) {
  start();
  post("/v1/chat/completions",
       R"({"model":"tiny","messages":[{"role":"user","content":"<|im_end|>"}]})");
  const std::vector<int32_t> prompt = engine.starts()[0].prompt;
  // The system turn and the user turn end; the user's own words do not.
  EXPECT_EQ(std::count(prompt.begin(), prompt.end(), kTestStopId), 2);
  EXPECT_NE(test_tokenizer().decode(prompt).find("user\n<|im_end|><|im_end|>"), std::string::npos);
  complete(R"("prompt":"a<|im_end|>")");
  EXPECT_EQ(engine.starts()[1].prompt.back(), kTestStopId);  // a raw prompt is parsed
}

TEST_F(ServerTest, StopStringsEndTheText) {
  engine.is_endless = true;
  engine.reply = test_ids("one two three ");
  engine.context = 1'000'000;
  engine.step_delay_us = 100;
  start();
  const Json json = parse(complete(R"("stop":["zero","wo th"])"));
  EXPECT_EQ(json["choices"][0]["text"], "one t");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(engine.wait_for_cancels(1));
  const auto data = events(chat(R"("stream":true,"stop":"three")").body);
  EXPECT_EQ(data.back(), "[DONE]");
  EXPECT_TRUE(engine.wait_for_cancels(2));
}

TEST_F(ServerTest, HeldBackTextComesAtTheEnd) {
  says("one tw");
  start();
  EXPECT_EQ(parse(complete(R"("stop":"two")"))["choices"][0]["text"], "one tw");
}

TEST_F(ServerTest, EchoAndTokenPrompts) {
  start();
  EXPECT_EQ(parse(complete(R"("echo":true)"))["choices"][0]["text"], "OnceHello, world.");
  const Json ids = test_ids("Once upon");
  const Json json = parse(complete(R"("echo":true,"prompt":)" + ids.dump()));
  EXPECT_EQ(json["choices"][0]["text"], "Once uponHello, world.");
  EXPECT_EQ(json["usage"]["prompt_tokens"], ids.size());
}

TEST_F(ServerTest, ReportsLogprobs) {
  start();
  const Json completion = parse(complete(R"("logprobs":2,"max_tokens":3)"));
  const Json& logprobs = completion["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), 3U);
  EXPECT_EQ(logprobs["token_logprobs"][0], -0.5);
  EXPECT_EQ(logprobs["top_logprobs"][0].size(), 2U);
  const Json whole = parse(chat(R"("logprobs":true,"top_logprobs":1,"max_tokens":3)"));
  EXPECT_EQ(whole["choices"][0]["logprobs"]["content"].size(), 3U);
  EXPECT_EQ(whole["choices"][0]["logprobs"]["content"][0]["top_logprobs"].size(), 1U);
  size_t num_tokens = 0;
  for (const std::string& event : events(chat(R"("logprobs":true,"stream":true)").body)) {
    if (event == "[DONE]") break;
    const Json choice = Json::parse(event)["choices"][0];
    if (!choice["logprobs"].is_null()) num_tokens += choice["logprobs"]["content"].size();
  }
  EXPECT_EQ(num_tokens, engine.reply.size());
}

TEST_F(ServerTest, AnswersEndWithTimings) {
  engine.tokens_per_step = 3;
  engine.step_delay_us = 20'000;
  engine.reply.resize(7, engine.reply.front());  // the prefill's three and 4 of two decode steps
  engine.reply.back() = kTestStopId;
  start();
  const auto expect_timings = [](const Json& chunk) {
    const Json timings = chunk.value("timings", Json::object());
    EXPECT_GE(timings.value("prefill_ms", 0.0), 2) << chunk;
    EXPECT_GT(timings.value("tokens_per_second", 0.0), 0) << chunk;
    EXPECT_LE(timings.value("tokens_per_second", 0.0), 6 / 0.02) << chunk;  // 0.04 s but for jitter
    EXPECT_EQ(timings.value("accepted_length", 0.0), 2) << chunk;
  };
  for (const auto& make : {&ServerTest::completion_body, &ServerTest::chat_body}) {
    const std::string path =
        make == &ServerTest::chat_body ? "/v1/chat/completions" : "/v1/completions";
    expect_timings(parse(post(path, make(""))));
    for (const char* usage : {"", R"(,"stream_options":{"include_usage":true})"}) {
      const auto data = events(post(path, make(R"("stream":true)" + std::string(usage))).body);
      expect_timings(Json::parse(data.at(data.size() - 2)));
      for (size_t i = 0; i + 2 < data.size(); ++i) {
        EXPECT_FALSE(Json::parse(data[i]).contains("timings")) << data[i];
      }
    }
  }
}

TEST_F(ServerTest, RequestIdsGoInAndOut) {
  start();
  EXPECT_EQ(post("/v1/completions", completion_body(), "X-Request-Id: my-id\r\n")
                .headers.at("x-request-id"),
            "my-id");
  EXPECT_EQ(post("/v1/completions", completion_body(R"("stream":true)"), "X-Request-Id: s\r\n")
                .headers.at("x-request-id"),
            "s");
  EXPECT_EQ(get("/health").headers.at("x-request-id").size(), 24U);
  const std::string bad = "X-Request-Id: has space\r\n";
  EXPECT_EQ(post("/v1/completions", "{", bad).headers.at("x-request-id").size(), 24U);
}

TEST_F(ServerTest, LogsOneLineARequest) {
  start();
  complete(R"("max_tokens":2)");
  post("/v1/completions", "{", "X-Request-Id: my-id\r\n");
  server->stop(1000);
  const std::vector<std::string> lines = log_lines();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NE(
      lines[0].find(" POST /v1/completions status=200 prompt=2 cached=0 completion=2 first_ms="),
      std::string::npos)
      << lines[0];
  EXPECT_NE(lines[0].find(" end=length"), std::string::npos) << lines[0];
  EXPECT_NE(lines[1].find("id=my-id POST /v1/completions status=400 prompt=0"), std::string::npos)
      << lines[1];
}

TEST_F(ServerTest, EightClientsAtOnce) {
  engine.max_sessions = 3;
  engine.step_delay_us = 100;
  start();
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([this, i] {
      Client client(server->port());
      for (int k = 0; k < 5; ++k) {
        client.post("/v1/chat/completions", chat_body(i % 2 == 0 ? "" : R"("stream":true)"));
        const net::TestResponse response = client.read_response();
        EXPECT_EQ(response.status, 200U);
        EXPECT_NE(response.body.find("world"), std::string::npos) << response.body;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(engine.starts().size(), 40U);
  EXPECT_EQ(engine.num_cancelled(), 0U);
}

}  // namespace
}  // namespace ultraspeed::server
