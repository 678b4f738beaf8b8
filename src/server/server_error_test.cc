// What goes wrong: bad requests, a full queue, clients that leave, an engine that fails, shutdown.
// After each, the next request works.
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "server/server_fixture.h"

namespace ultraspeed::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class ServerErrorTest : public ServerTest {
 protected:
  void expect_works() { EXPECT_EQ(complete().status, 200U); }

  // An engine that writes until it is told to stop.
  void make_endless() {
    engine.is_endless = true;
    engine.reply = test_ids("more ");
    engine.step_delay_us = 500;
    engine.context = 1'000'000;
  }
  void make_finite() {
    engine.is_endless = false;
    engine.step_delay_us = 0;
  }
};

TEST_F(ServerErrorTest, RoutesAndMethods) {
  start();
  expect_error(get("/v1"), 404, "unknown_url", "GET /v1");
  expect_error(get("/v1/modelsx"), 404, "unknown_url", "/v1/modelsx");
  expect_error(get("/v1/models/"), 404, "unknown_url", "/v1/models/");
  net::TestResponse response = get("/v1/completions");
  expect_error(response, 405, "method_not_allowed", "it takes POST");
  EXPECT_EQ(response.headers["allow"], "POST");
  response = post("/v1/models", "{}");
  expect_error(response, 405, "method_not_allowed", "does not take POST");
  EXPECT_EQ(response.headers["allow"], "GET");
  Client client(server->port());
  client.send("HEAD /health HTTP/1.1\r\n\r\n");
  EXPECT_EQ(client.read_response(true).status, 200U);
}

TEST_F(ServerErrorTest, BadRequests) {
  start();
  for (const char* path : {"/v1/completions", "/v1/chat/completions"}) {
    expect_error(post(path, R"({"model":"tiny",})"), 400, "invalid_json", "line 1, column 17");
    expect_error(post(path, ""), 400, "invalid_json", "column 1");
    expect_error(post(path, "[]"), 400, "invalid_json", "must be a JSON object, not an array");
    expect_error(post(path, "{\"model\":\"\xff\"}"), 400, "invalid_json", "UTF-8");
    expect_error(post(path, std::string(100'000, '[')), 400, "invalid_json", "64 levels");
    expect_error(post(path, R"({"model":"gpt-4"})"), 404, "model_not_found", "'gpt-4'");
    expect_error(post(path, R"({})"), 400, "invalid_value", "'model' is missing");
  }
  const net::TestResponse response = complete(R"("temperature":9)");
  expect_error(response, 400, "invalid_value", "between 0 and 2");
  EXPECT_EQ(parse(response)["error"]["param"], "temperature");
  expect_error(complete(R"("prompt":"")"), 400, "invalid_value", "'prompt' is empty");
  expect_error(complete(R"("prompt":[])"), 400, "invalid_value", "'prompt' is empty");
}

TEST_F(ServerErrorTest, BadMessagesNameThePlace) {
  start();
  const auto chat_with = [this](std::string_view messages) {
    return post("/v1/chat/completions",
                fmt::format(R"({{"model":"tiny","messages":{}}})", messages));
  };
  net::TestResponse response = chat_with(R"([{"role":"user","content":[{"type":"image_url"}]}])");
  expect_error(response, 400, "unsupported_value", "image_url");
  EXPECT_EQ(parse(response)["error"]["param"], "messages[0].content[0]");
  response = chat_with(R"([{"role":"user"}])");
  expect_error(response, 400, "invalid_value", "content");
  EXPECT_EQ(parse(response)["error"]["param"], "messages[0].content");
  expect_error(chat_with(R"([])"), 400, "invalid_value", "'messages' is missing or empty");
  EXPECT_EQ(chat_with(R"([{"role":"user","content":"Hi"}])").status, 200U);
}

TEST_F(ServerErrorTest, ModelsWithoutATemplateDoNotChat) {
  model.chat_template = nullptr;
  start();
  expect_error(chat(), 400, "unsupported_value", "no chat template");
  expect_works();
}

TEST_F(ServerErrorTest, PromptsMustFitTheContext) {
  engine.context = 50;
  start();
  const std::string ids = "[" + [] {
    std::string list = "7";
    for (int i = 1; i < 50; ++i) list += ",7";
    return list;
  }() + "]";
  const net::TestResponse response = complete("\"prompt\":" + ids);
  expect_error(response, 400, "context_length_exceeded",
               "The prompt has 50 tokens; this model's context of 50 tokens");
  EXPECT_EQ(parse(response)["error"]["param"], "prompt");
  std::string long_text(300'000, 'x');
  expect_error(
      post("/v1/chat/completions",
           R"({"model":"tiny","messages":[{"role":"user","content":")" + long_text + R"("}]})"),
      400, "context_length_exceeded", "The prompt has at least ");
  EXPECT_EQ(parse(complete(R"("max_tokens":100000)"))["choices"][0]["finish_reason"], "stop");
}

TEST_F(ServerErrorTest, HttpErrorsAreExchangesLikeOthers) {
  options.http.max_body_bytes = 1000;
  options.http.header_timeout_ms = 300;
  start();
  const auto refused = [this](std::string_view bytes) {
    Client client(server->port());
    client.send(bytes);
    return client.read_response();
  };
  const std::string line = "POST /v1/messages HTTP/1.1\r\n";
  const std::vector<std::pair<unsigned, std::string>> cases = {
      {413, line + "X-Request-Id: mine\r\nContent-Length: 2000\r\n\r\n"},
      {431, line + "A: " + std::string(options.http.max_header_bytes, 'a')},
      {408, line + "A: b\r\n"},
      {400, line + "No colon\r\n\r\n"},
      {501, line + "Transfer-Encoding: gzip\r\n\r\n"}};
  for (const auto& [status, bytes] : cases) {
    net::TestResponse response = refused(bytes);
    EXPECT_EQ(response.status, status);
    const Json json = parse(response);
    EXPECT_EQ(json.value("type", ""), "error") << response.body;
    EXPECT_EQ(json.value("request_id", ""), response.headers["x-request-id"]);
    EXPECT_FALSE(response.headers["x-request-id"].empty());
    EXPECT_EQ(json["error"]["type"], status == 413   ? "request_too_large"
                                     : status == 501 ? "api_error"
                                                     : "invalid_request_error");
  }
  EXPECT_EQ(refused(cases[0].second).headers["x-request-id"], "mine");
  EXPECT_TRUE(
      parse(refused("POST /v1/completions HTTP/1.1\r\nNo colon\r\n\r\n")).contains("error"));
  const std::string metrics = get("/metrics").body;
  EXPECT_NE(metrics.find("status=\"413\"} 2"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("status=\"408\"} 1"), std::string::npos) << metrics;
  server->stop(0);
  EXPECT_NE(log_.str().find("id=mine POST /v1/messages status=413"), std::string::npos);
}

TEST_F(ServerErrorTest, RoutesInTheLogAreOneLine) {
  start();
  get("/v1/%0Aid=forged%7F%0D");
  get("/" + std::string(5000, 'x'));
  server->stop(0);
  const std::vector<std::string> lines = log_lines();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NE(lines[0].find("GET /v1/?id=forged??"), std::string::npos) << lines[0];
  EXPECT_LT(lines[1].size(), 500U);
}

TEST_F(ServerErrorTest, HttpErrorsHaveTheSameEnvelope) {
  options.http.max_body_bytes = 1000;
  start();
  expect_error(complete(R"("x":")" + std::string(2000, 'x') + "\""), 413, "",
               "larger than the server's limit");
  Client client(server->port());
  client.send("BROKEN\r\n\r\n");
  expect_error(client.read_response(), 400, "", "malformed HTTP");
  expect_works();
}

TEST_F(ServerErrorTest, ChunkedAndLargeBodiesWork) {
  start();
  const std::string body = completion_body(R"("user":")" + std::string(1'000'000, 'u') + "\"");
  Client client(server->port());
  client.post("/v1/completions", body);
  EXPECT_EQ(client.read_response().status, 200U);
  client.send("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (size_t i = 0; i < body.size(); i += 100'000) {
    const std::string piece = body.substr(i, 100'000);
    client.send(fmt::format("{:x}\r\n{}\r\n", piece.size(), piece));
  }
  client.send("0\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 200U);
}

TEST_F(ServerErrorTest, ApiKeyGuardsEveryRouteButHealth) {
  options.access.api_keys = {"secret"};
  start();
  EXPECT_EQ(get("/health").status, 200U);
  EXPECT_EQ(get("/health/ready").status, 200U);
  expect_error(get("/version"), 401, "invalid_api_key", "API key");
  expect_error(get("/v1/models"), 401, "invalid_api_key", "API key");
  expect_error(get("/nonsense"), 401, "invalid_api_key", "API key");
  for (const char* header :
       {"", "Authorization: Bearer wrong!\r\n", "Authorization: secret\r\n",
        "Authorization: Bearer secret2\r\n", "Authorization: Bearer \r\n", "api-key: Secret\r\n"}) {
    net::TestResponse response = post("/v1/completions", completion_body(), header);
    expect_error(response, 401, "invalid_api_key", "API key");
    EXPECT_EQ(response.headers["www-authenticate"], "Bearer");
  }
  for (const char* header : {"Authorization: Bearer secret\r\n", "api-key: secret\r\n"}) {
    EXPECT_EQ(post("/v1/completions", completion_body(), header).status, 200U);
  }
}

// By its size, before a text of megabytes is tokenized.
TEST_F(ServerErrorTest, WhatCannotFitIsRefusedAtOnce) {
  engine.context = 100;
  start();
  const std::string text(4 << 20, ' ');
  for (const auto& [path, field, param] : {std::tuple{"/v1/completions", R"("prompt":)", "prompt"},
                                           std::tuple{"/v1/responses", R"("input":)", "input"}}) {
    const net::TestResponse refused =
        post(path, fmt::format(R"({{"model":"tiny",{}"{}"}})", field, text));
    expect_error(refused, 400, "context_length_exceeded", "tokens");
    EXPECT_EQ(parse(refused)["error"]["param"], param);
  }
}

TEST_F(ServerErrorTest, AFullQueueAnswers429) {
  make_endless();
  engine.max_sessions = 1;
  options.max_queue = 1;
  start();
  Client running(server->port());
  running.post("/v1/completions", completion_body(R"("stream":true)"));
  EXPECT_EQ(running.read_head().status, 200U);
  Client waiting(server->port());
  waiting.post("/v1/completions", completion_body(R"("stream":true)"));
  EXPECT_EQ(waiting.read_head().status, 200U);  // it has a place, and will get pings
  for (const char* fields : {"", R"("stream":true)"}) {
    net::TestResponse refused = complete(fields);
    expect_error(refused, 429, "queue_full", "queue are taken, this request would be number 2");
    EXPECT_EQ(refused.headers["retry-after"], "2");
  }
  running.close();
  EXPECT_TRUE(engine.wait_for_starts(2));  // the waiting one runs now
  waiting.close();
  EXPECT_TRUE(engine.wait_for_cancels(2));
  make_finite();
  expect_works();
}

TEST_F(ServerErrorTest, HangUpCancels) {
  make_endless();
  start();
  for (const bool is_stream : {true, false}) {
    const size_t num_cancelled = engine.num_cancelled();
    Client client(server->port());
    client.post("/v1/chat/completions", chat_body(is_stream ? R"("stream":true)" : ""));
    ASSERT_TRUE(engine.wait_for_starts(num_cancelled + 1));
    if (is_stream) {
      client.read_head();
      client.read_chunk();
    }
    client.close();
    EXPECT_TRUE(engine.wait_for_cancels(num_cancelled + 1));
  }
  make_finite();
  expect_works();
}

TEST_F(ServerErrorTest, HangUpDuringPrefillCancels) {
  engine.prefill_width = 1;
  engine.step_delay_us = 10'000;
  engine.context = 100'000;
  start();
  Client client(server->port());
  client.post("/v1/completions", completion_body(R"("prompt":")" + std::string(5000, 'x') + "\""));
  ASSERT_TRUE(engine.wait_for_starts(1));
  const auto begin = steady_clock::now();
  client.reset();
  EXPECT_TRUE(engine.wait_for_cancels(1));
  EXPECT_LT(steady_clock::now() - begin, milliseconds(2000));
  engine.step_delay_us = 0;
  expect_works();
}

TEST_F(ServerErrorTest, HangUpInTheQueueLeavesIt) {
  make_endless();
  engine.max_sessions = 1;
  start();
  Client running(server->port());
  running.post("/v1/completions", completion_body());
  ASSERT_TRUE(engine.wait_for_starts(1));
  {
    Client waiting(server->port());
    waiting.post("/v1/completions", completion_body(R"("stream":true)"));
    waiting.read_head();
  }
  std::this_thread::sleep_for(milliseconds(100));
  make_finite();
  EXPECT_EQ(running.read_response().status, 200U);
  expect_works();
  EXPECT_EQ(engine.starts().size(), 2U);
}

TEST_F(ServerErrorTest, AClientThatDoesNotReadIsDropped) {
  make_endless();
  engine.step_delay_us = 0;
  engine.tokens_per_step = 100;
  options.http.max_queued_bytes = 50'000;
  start();
  Client client(server->port(), 4096);
  client.post("/v1/completions", completion_body(R"("stream":true,"logprobs":20)"));
  EXPECT_TRUE(engine.wait_for_cancels(1));
  make_finite();
  expect_works();
}

TEST_F(ServerErrorTest, KeepsSilentStreamsAlive) {
  engine.is_paused = true;
  engine.step_delay_us = 1000;
  options.http.keepalive_interval_ms = 50;
  start();
  Client client(server->port());
  client.post("/v1/chat/completions", chat_body(R"("stream":true)"));
  client.read_head();
  EXPECT_NE(client.read_chunk().value_or("").find("\"role\":\"assistant\""), std::string::npos);
  EXPECT_EQ(client.read_chunk(), ": ping\n\n");
  EXPECT_EQ(client.read_chunk(), ": ping\n\n");
}

TEST_F(ServerErrorTest, EngineFaults) {
  engine.fails_steps = true;
  start();
  expect_error(complete(), 500, "engine_error", "worker 3 missed its deadline");
  EXPECT_EQ(get("/health").status, 503U);
  EXPECT_EQ(get("/health/ready").body, R"({"status":"engine fault"})");
  const auto data = events(chat(R"("stream":true)").body);
  ASSERT_EQ(data.size(), 3U);  // the role, the error, the end
  EXPECT_EQ(Json::parse(data[1])["error"]["code"], "engine_error");
  EXPECT_EQ(data[2], "[DONE]");
  engine.fails_steps = false;
  expect_works();
  EXPECT_EQ(get("/health").status, 200U);
}

TEST_F(ServerErrorTest, EngineRefusals) {
  engine.start_error = Error{ErrorCode::kInvalidArgument, "token id 12287 is out of range"};
  start();
  expect_error(complete(), 400, "invalid_value", "12287");
  expect_error(complete(R"("stream":true)"), 400, "invalid_value", "12287");
}

TEST_F(ServerErrorTest, DrainLetsRequestsEnd) {
  engine.is_paused = true;
  engine.step_delay_us = 1000;
  start();
  Client client(server->port());
  client.post("/v1/completions", completion_body());
  ASSERT_TRUE(engine.wait_for_starts(1));
  std::thread stopper([this] { server->stop(10'000); });
  while (get("/health/ready").status == 200U) std::this_thread::sleep_for(milliseconds(5));
  net::TestResponse refused = complete();
  expect_error(refused, 503, "draining", "shutting down");
  EXPECT_EQ(get("/health").status, 200U);  // alive
  EXPECT_EQ(refused.headers["retry-after"], "2");
  engine.is_paused = false;
  EXPECT_EQ(parse(client.read_response())["choices"][0]["text"], "Hello, world.");
  stopper.join();
}

TEST_F(ServerErrorTest, DrainEndsWhatTakesTooLong) {
  make_endless();
  start();
  Client whole(server->port());
  whole.post("/v1/completions", completion_body());
  Client stream(server->port());
  stream.post("/v1/completions", completion_body(R"("stream":true)"));
  stream.read_head();
  ASSERT_TRUE(engine.wait_for_starts(2));
  std::thread stopper([this] { server->stop(50); });
  expect_error(whole.read_response(), 503, "draining", "is stopping");
  std::string rest;
  while (auto chunk = stream.read_chunk()) rest += *chunk;
  const auto data = events(rest);
  ASSERT_GE(data.size(), 2U);
  EXPECT_EQ(Json::parse(data[data.size() - 2])["error"]["code"], "draining");
  EXPECT_EQ(data.back(), "[DONE]");
  stopper.join();
  EXPECT_EQ(engine.num_active(), 0U);
  server->stop(0);  // a second time does nothing
}

TEST_F(ServerErrorTest, PortInUse) {
  start();
  options.http.port = server->port();
  const auto second = Server::start(model, options);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace ultraspeed::server
