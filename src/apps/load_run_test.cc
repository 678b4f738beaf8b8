// Load on a real server over loopback: a scripted handler, and the API server with a scripted
// engine.
#include "apps/load_run.h"

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "apps/files.h"
#include "apps/load_report.h"
#include "net/test_server.h"
#include "server/fake_engine.h"
#include "server/server.h"
#include "server/test_model.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

class LoadRunTest : public testing::Test {
 protected:
  LoadRunTest() {
    handler.answer = {
        200,
        {{"Content-Type", "text/event-stream"}},
        "data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"completion_tokens\":3}}\n\n"
        "data: [DONE]\n\n"};
    auto listening = net::HttpServer::listen({}, handler);
    EXPECT_TRUE(listening);
    server = std::move(*listening);
    server->start();
    options.url = {"127.0.0.1", server->port(), ""};
    options.model = "m";
  }
  LoadRun run(const std::vector<ordered_json>& prompts = {{{"prompt", "a"}}}) {
    auto result = run_load(options, prompts);
    EXPECT_TRUE(result);
    return std::move(*result);
  }

  net::RepeatingHandler handler;
  std::unique_ptr<net::HttpServer> server;
  LoadOptions options;
};

TEST_F(LoadRunTest, SendsWhatWasAskedFor) {
  options.endpoint = Endpoint::kCompletions;
  options.api_key = "secret";
  options.num_requests = 5;
  options.seed = 10;
  options.temperature = 0.6;
  options.max_tokens = 20;
  const LoadRun result = run({{{"prompt", "a"}}, {{"prompt", {1, 2}}, {"stop", {"x"}}}});
  ASSERT_EQ(handler.requests.size(), 5U);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(result.requests[i].prompt, i % 2);
    EXPECT_EQ(result.requests[i].failure, "") << result.requests[i].failure_text;
    EXPECT_EQ(handler.requests[i].target, "/v1/completions");
    EXPECT_EQ(handler.requests[i].header("Authorization"), "Bearer secret");
    ordered_json expected = {{"model", "m"}, {"prompt", "a"}};
    if (i % 2 == 1) expected = {{"model", "m"}, {"prompt", {1, 2}}, {"stop", {"x"}}};
    expected.update({{"max_tokens", 20},
                     {"temperature", 0.6},
                     {"seed", 10 + i},
                     {"stream", true},
                     {"stream_options", {{"include_usage", true}}}});
    EXPECT_EQ(ordered_json::parse(handler.requests[i].body), expected);
  }
  options.ignore_eos = true;
  options.url.path = "/base/v1";
  options.endpoint = Endpoint::kChat;
  run();
  EXPECT_EQ(handler.requests.back().target, "/base/v1/chat/completions");
  EXPECT_TRUE(ordered_json::parse(handler.requests.back().body).value("ignore_eos", false));
}

// How many requests are under way when each is sent.
size_t most_at_once(const LoadRun& run) {
  size_t most = 0;
  for (const RequestSample& sample : run.requests) {
    most = std::max(
        most,
        static_cast<size_t>(std::ranges::count_if(run.requests, [&](const RequestSample& other) {
          return other.sent_s <= sample.sent_s && sample.sent_s < other.sent_s + other.end_s;
        })));
  }
  return most;
}

TEST(ArrivalTimes, AreAPoissonProcessWithTheSeed) {
  LoadOptions options;
  options.num_requests = 10001;
  options.rate = 1000;
  const std::vector<double> times = arrival_times(options);
  ASSERT_EQ(times.size(), 10001U);
  EXPECT_EQ(times[0], 0);
  EXPECT_NEAR(times.back() / 10000, 1e-3, 5e-5);  // deviation of the mean: 1e-5
  size_t num_long = 0;  // exp(-2) of them are longer than two means: 1353, deviation 34
  for (size_t i = 1; i < times.size(); ++i) num_long += times[i] - times[i - 1] > 2e-3 ? 1 : 0;
  EXPECT_NEAR(static_cast<double>(num_long), 1353, 170);
  EXPECT_EQ(arrival_times(options), times);
  options.seed = 1;
  EXPECT_NE(arrival_times(options), times);
}

TEST_F(LoadRunTest, NothingIsSentBeforeItArrives) {
  options.num_requests = 30;
  options.concurrency = 0;
  options.rate = 300;
  const std::vector<double> arrivals = arrival_times(options);
  const LoadRun result = run();
  for (size_t i = 0; i < 30; ++i) EXPECT_GE(result.requests[i].sent_s, arrivals[i]) << i;
}

TEST_F(LoadRunTest, NamesTheModelThatTheServerLists) {
  handler.answer = {200, {}, R"({"data":[{"id":"first"},{"id":"second"}]})"};
  auto listed = first_model(options);
  ASSERT_TRUE(listed);
  EXPECT_EQ(listed->name, "first");
  EXPECT_EQ(listed->max_context, 0U);
  handler.answer.body = R"({"data":[{"id":"first","max_model_len":4096}]})";
  listed = first_model(options);
  ASSERT_TRUE(listed);
  EXPECT_EQ(listed->max_context, 4096U);
  EXPECT_EQ(handler.requests.back().target, "/v1/models");
  const auto expect_error = [&](const std::string& part) {
    const auto model = first_model(options);
    ASSERT_FALSE(model);
    EXPECT_NE(model.error().message.find(part), std::string::npos) << model.error().message;
  };
  handler.answer = {200, {}, R"({"data":[]})"};
  expect_error("name one with --model");
  handler.answer = {200, {}, "<html>"};
  expect_error("/v1/models");
  handler.answer = {401, {}, "who are you?"};
  expect_error("HTTP 401: who are you?");
  server.reset();
  expect_error("is a server running there?");
}

TEST_F(LoadRunTest, CountsFailuresByKind) {
  handler.answer = {429, {}, R"({"error":{"message":"full"}})"};
  options.num_requests = 3;
  const LoadFigures figures = load_figures(run());
  EXPECT_EQ(figures.num_succeeded, 0U);
  ASSERT_TRUE(figures.failures.contains("HTTP 429"));
  EXPECT_EQ(figures.failures.at("HTTP 429").count, 3U);
  EXPECT_EQ(figures.failures.at("HTTP 429").text, "full");
}

class LoadOnApiServer : public testing::Test {
 protected:
  LoadOnApiServer() {
    spdlog::set_level(spdlog::level::off);
    model.name = "tiny";
    model.engine = &engine;
    model.tokenizer = &server::test_tokenizer();
    model.chat_template = &server::test_chat_template();
    model.defaults.stop_ids = {server::kTestStopId};
    engine.reply = server::test_ids("one two three four five six seven");
    engine.reply.push_back(server::kTestStopId);
    engine.tokens_per_step = 2;
    engine.step_delay_us = 1000;
    auto started = server::Server::start(model, {});
    EXPECT_TRUE(started);
    api = std::move(*started);
    options.url = {"127.0.0.1", api->port(), ""};
    options.model = "tiny";
  }
  ~LoadOnApiServer() override {
    api.reset();
    spdlog::set_level(spdlog::level::info);
  }

  server::FakeEngine engine;
  server::ServedModel model;
  std::unique_ptr<server::Server> api;
  LoadOptions options;
};

TEST_F(LoadOnApiServer, CountsTheServersTokens) {
  options.num_requests = 12;
  options.concurrency = 3;
  size_t num_reported = 0;
  options.progress = [&](size_t num_done, uint64_t) { num_reported = num_done; };
  for (const Endpoint endpoint : kAllEndpoints) {
    options.endpoint = endpoint;
    const auto prompts = load_prompts(std::nullopt, endpoint);
    ASSERT_TRUE(prompts);
    const auto result = run_load(options, *prompts);
    ASSERT_TRUE(result);
    EXPECT_EQ(most_at_once(*result), 3U);
    EXPECT_EQ(num_reported, 12U);
    const LoadFigures figures = load_figures(*result);
    EXPECT_EQ(figures.num_succeeded, 12U)
        << (figures.failures.empty() ? "" : figures.failures.begin()->second.text);
    EXPECT_EQ(figures.tokens, 12 * engine.reply.size());
    EXPECT_GT(figures.prompt_tokens, 12U);
    EXPECT_EQ(figures.num_server_lengths, 12U);
    // A chunk is a step's two tokens: fewer events than tokens.
    EXPECT_LE(figures.inter_event_ms.size(), 12 * (engine.reply.size() / 2));
    const auto least_ms = *std::ranges::min_element(figures.end_to_end_ms);
    EXPECT_GE(least_ms, static_cast<double>(engine.reply.size()) / 2);
  }
}

TEST_F(LoadOnApiServer, OneFullQueueFailsTheRest) {
  engine.max_sessions = 1;
  engine.is_paused = true;
  server::ServerOptions full;
  full.max_queue = 1;
  auto started = server::Server::start(model, full);
  ASSERT_TRUE(started);
  api = std::move(*started);
  options.url.port = api->port();
  options.num_requests = 6;
  options.concurrency = 6;
  options.progress = [&](size_t num_done, uint64_t) {
    if (num_done == 4) engine.is_paused = false;
  };
  const auto result = run_load(options, *load_prompts(std::nullopt, Endpoint::kChat));
  ASSERT_TRUE(result);
  const LoadFigures figures = load_figures(*result);
  EXPECT_EQ(figures.num_succeeded, 2U);
  ASSERT_TRUE(figures.failures.contains("HTTP 429"));
  EXPECT_EQ(figures.failures.at("HTTP 429").count, 4U);
}

TEST(LoadPrompts, AFileMeansTheSameAsToOtherBenches) {
  const test::TemporaryDirectory directory;
  const auto write = [&](const std::string& text) {
    const std::string path = directory.path() + "/prompts.jsonl";
    EXPECT_TRUE(write_file(path, text));
    return path;
  };
  const std::string path = write(
      "\"a\"\n[{\"role\":\"user\",\"content\":\"b\"}]\n"
      "{\"messages\":[{\"role\":\"user\",\"content\":\"c\"}],\"tools\":[{}],\"stop\":\"x\"}\n"
      "{\"prompt\":\"d\",\"name\":\"n\"}\n");
  const auto chat = load_prompts(path, Endpoint::kChat);
  ASSERT_TRUE(chat) << chat.error().message;
  const auto message = [](const char* text) {
    return ordered_json::array({{{"role", "user"}, {"content", text}}});
  };
  const ordered_json with_tools = {
      {"messages", message("c")}, {"tools", {ordered_json::object()}}, {"stop", {"x"}}};
  EXPECT_EQ(*chat, (std::vector<ordered_json>{{{"messages", message("a")}},
                                              {{"messages", message("b")}},
                                              with_tools,
                                              {{"messages", message("d")}}}));
  const auto raw = load_prompts(write("[\"a\", {\"prompt_ids\": [1, 2]}]"), Endpoint::kCompletions);
  ASSERT_TRUE(raw) << raw.error().message;
  EXPECT_EQ(*raw, (std::vector<ordered_json>{{{"prompt", "a"}}, {{"prompt", {1, 2}}}}));

  const auto expect_error = [&](const std::string& text, Endpoint endpoint,
                                const std::string& part) {
    const auto prompts = load_prompts(write(text), endpoint);
    ASSERT_FALSE(prompts) << text;
    EXPECT_NE(prompts.error().message.find(part), std::string::npos) << prompts.error().message;
  };
  expect_error("\"a\"\n{\"prompt_ids\":[1]}", Endpoint::kChat,
               "prompts.jsonl: prompt 2: token ids are no messages");
  expect_error("[[]]", Endpoint::kCompletions, "prompt 1: messages need --endpoint chat");
  expect_error("{\"prompt\":5}", Endpoint::kChat, "prompt 1: an object without prompt_ids");
  expect_error("5", Endpoint::kChat, "prompt 1: it is a number");
  expect_error("\"a\"\n{", Endpoint::kChat, "line 2");
  expect_error("", Endpoint::kChat, "no prompts in it");
}

}  // namespace
}  // namespace ultraspeed::apps
