// The whole server over real loopback sockets, with a scripted engine and the bundled model's
// tokenizer and chat template.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "net/test_client.h"
#include "server/fake_engine.h"
#include "server/server.h"
#include "server/test_model.h"

namespace ultraspeed::server {

class ServerTest : public testing::Test {
 protected:
  using Json = nlohmann::ordered_json;
  using Client = net::TestClient;

  ServerTest() {
    model.name = "tiny";
    model.engine = &engine;
    model.tokenizer = &test_tokenizer();
    model.chat_template = &test_chat_template();
    model.defaults.sampling.temperature = 0.6F;
    model.defaults.stop_ids = {kTestStopId, 0};
    says("Hello, world.");
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(log_);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", std::move(sink)));
  }

  // What was logged. REQUIRES: the server is stopped.
  std::vector<std::string> log_lines() {
    std::vector<std::string> lines;
    for (std::string line; std::getline(log_, line);) lines.push_back(line);
    return lines;
  }

  // What the engine writes, ended by the stop token.
  void says(std::string_view text) {
    engine.reply = test_ids(text);
    engine.reply.push_back(kTestStopId);
  }

  void start() {
    auto result = Server::start(model, options);
    ASSERT_TRUE(result) << result.error().message;
    server = std::move(*result);
  }

  // The whole answer to a body on a fresh connection.
  net::TestResponse post(std::string_view path, std::string_view body,
                         std::string_view headers = {}) const {
    Client client(server->port());
    client.post(path, body, headers);
    return client.read_response();
  }
  net::TestResponse get(std::string_view path) const {
    Client client(server->port());
    client.get(path);
    return client.read_response();
  }
  // `fields` follow the model and a short prompt.
  net::TestResponse complete(std::string_view fields = {}) const {
    return post("/v1/completions", completion_body(fields));
  }
  net::TestResponse chat(std::string_view fields = {}) const {
    return post("/v1/chat/completions", chat_body(fields));
  }
  static std::string completion_body(std::string_view fields = {}) {
    return fmt::format(R"({{"model":"tiny","prompt":"Once"{}{}}})", fields.empty() ? "" : ",",
                       fields);
  }
  static std::string chat_body(std::string_view fields = {}) {
    return fmt::format(R"({{"model":"tiny","messages":[{{"role":"user","content":"Hi"}}]{}{}}})",
                       fields.empty() ? "" : ",", fields);
  }

  static Json parse(const net::TestResponse& response) {
    Json json = Json::parse(response.body, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << response.body;
    return json;
  }
  // The data of each event of a stream.
  static std::vector<std::string> events(const std::string& body) {
    std::vector<std::string> events;
    size_t begin = 0;
    for (size_t end; (end = body.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
      const std::string event = body.substr(begin, end - begin);
      if (event.starts_with("data: ")) events.push_back(event.substr(6));
    }
    EXPECT_EQ(begin, body.size()) << "the stream ends inside of an event";
    return events;
  }

  // The events of a stream, whose names must be their types.
  static std::vector<Json> named_events(const std::string& stream) {
    std::vector<Json> all;
    size_t begin = 0;
    for (size_t end; (end = stream.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
      const std::string event = stream.substr(begin, end - begin);
      const size_t line = event.find('\n');
      EXPECT_TRUE(event.starts_with("event: ") && event.substr(line + 1).starts_with("data: "));
      all.push_back(Json::parse(event.substr(line + 7)));
      EXPECT_EQ(all.back()["type"], event.substr(7, line - 7));
    }
    EXPECT_EQ(begin, stream.size()) << "the stream ends inside of an event";
    return all;
  }

  // An empty code stands for null.
  static void expect_error(const net::TestResponse& response, unsigned status,
                           std::string_view code, std::string_view message_part) {
    EXPECT_EQ(response.status, status) << response.body;
    const Json error = parse(response).value("error", Json::object());
    EXPECT_EQ(error.value("code", Json()), code.empty() ? Json() : Json(code)) << response.body;
    EXPECT_NE(error.value("message", "").find(message_part), std::string::npos) << response.body;
    EXPECT_TRUE(error.contains("type") && error.contains("param")) << response.body;
  }

  std::stringstream log_;
  FakeEngine engine;
  ServedModel model;
  ServerOptions options;
  std::unique_ptr<Server> server;
};

}  // namespace ultraspeed::server
