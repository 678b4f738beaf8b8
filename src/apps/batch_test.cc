// Batches: what lines are taken, what is written, and that a batch can be run again.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/batch_run.h"
#include "apps/files.h"
#include "net/test_server.h"
#include "server/server_fixture.h"
#include "support/temporary_directory.h"

namespace ultraspeed::apps {
namespace {

using nlohmann::ordered_json;

std::string batch_line(const std::string& id, const std::string& path, const std::string& body) {
  return ordered_json({{"custom_id", id},
                       {"method", "POST"},
                       {"url", path},
                       {"body", ordered_json::parse(body)}})
             .dump() +
         "\n";
}

TEST(ParseBatchTest, ReportsBrokenLinesWithTheirNumbers) {
  const std::string body = R"({"model":"tiny"})";
  const std::string contents =
      batch_line("a", "/v1/responses", body) + "\n{broken\n[]\n" +
      batch_line("", "/v1/responses", body) + batch_line("b", "/v1/embeddings", body) +
      R"({"custom_id":"c","method":"GET","url":"/v1/responses","body":{}})" + "\n" +
      R"({"custom_id":"c","method":"POST","url":"/v1/responses","body":1})" + "\n" +
      batch_line("a", "/v1/responses", body) +
      batch_line("d", "/v1/messages", R"({"stream":true})") + "  \n" +
      batch_line("e", "/v1/messages", body);
  std::vector<std::pair<size_t, std::string>> faults;
  const auto requests = parse_batch(contents, [&](size_t line, std::string fault) {
    faults.emplace_back(line, std::move(fault));
  });
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[1].custom_id, "e");
  EXPECT_EQ(requests[1].line, 12U);
  EXPECT_EQ(batch_body(requests[0]), body);
  std::vector<size_t> lines;
  for (const auto& [line, fault] : faults) lines.push_back(line);
  EXPECT_EQ(lines, (std::vector<size_t>{3, 4, 5, 6, 7, 8, 9, 10}));
  EXPECT_NE(faults[3].second.find("/v1/chat/completions"), std::string::npos);
}

std::string nested(size_t depth) {
  return std::string(depth, '[') + "1" + std::string(depth, ']');
}

// Writing a value down calls itself for each level: the stack would end.
TEST(ParseBatchTest, DeepNestingIsABrokenLine) {
  const auto line_with = [](const std::string& id, size_t depth) {
    return R"({"custom_id":")" + id + R"(","method":"POST","url":"/v1/messages","body":{"x":)" +
           nested(depth) + "}}\n";
  };
  std::vector<size_t> broken;
  const std::string contents = line_with("a", 100'000) + line_with("b", 63) + line_with("c", 62);
  const auto requests =
      parse_batch(contents, [&](size_t line, const std::string&) { broken.push_back(line); });
  EXPECT_EQ(broken, (std::vector<size_t>{1, 2}));
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(batch_body(requests[0]), R"({"x":)" + nested(62) + "}");
}

TEST(BatchAnswerTest, AnswersThatAreNoJsonOrDeepAreErrors) {
  const BatchRequest request{.line = 3, .custom_id = "a", .path = "/v1/messages", .text = {}};
  for (const std::string& body : {std::string("<html>"), nested(65), nested(100'000)}) {
    const auto answer = ordered_json::parse(batch_answer(request, 200, "", body).line);
    EXPECT_TRUE(answer["response"].is_null());
    EXPECT_NE(answer["error"]["message"].get<std::string>().find("HTTP 200"), std::string::npos);
  }
  const auto answer = ordered_json::parse(batch_answer(request, 200, "", nested(64)).line);
  EXPECT_TRUE(answer["error"].is_null());
}

class BatchTest : public server::ServerTest {
 protected:
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
  // REQUIRES: the server has started.
  Result<BatchFigures> run(const std::string& contents, BatchOutput* output,
                           uint32_t concurrency = 3) {
    BatchOptions batch;
    batch.url = *net::parse_http_url(server->url());
    batch.concurrency = concurrency;
    auto requests = parse_batch(contents, [](size_t line, const std::string& fault) {
      ADD_FAILURE() << line << ": " << fault;
    });
    std::erase_if(requests, [&](const auto& request) { return output->has(request.custom_id); });
    return run_batch(batch, requests, output);
  }
  std::vector<ordered_json> answers() const {
    std::vector<ordered_json> all;
    std::stringstream lines(*read_file(path("out")));
    for (std::string line; std::getline(lines, line);) all.push_back(ordered_json::parse(line));
    return all;
  }

  test::TemporaryDirectory directory_;
};

const char* const kMessages = R"({"model":"tiny","max_tokens":9,
                                  "messages":[{"role":"user","content":"Hi"}]})";

TEST_F(BatchTest, AnswersAllRoutesAndGoesOn) {
  start();
  const std::string first =
      batch_line("chat", "/v1/chat/completions", kMessages) +
      batch_line("refused", "/v1/completions", R"({"model":"other"})") +
      batch_line("text", "/v1/completions", R"({"model":"tiny","prompt":"Once"})");
  const std::string rest =
      batch_line("response", "/v1/responses", R"({"model":"tiny","input":"Hi"})") +
      batch_line("message", "/v1/messages", kMessages);
  {
    auto output = BatchOutput::open(path("out"));
    ASSERT_TRUE(output) << output.error().message;
    const auto figures = run(first, &*output);
    ASSERT_TRUE(figures) << figures.error().message;
    EXPECT_EQ(figures->num_succeeded, 2U);
    EXPECT_EQ(figures->num_refused, 1U);
  }
  ASSERT_TRUE(write_file(path("out"),
                         *read_file(path("out")) + R"({"id":"batch_req_5","custom_id":"mess)"));
  auto output = BatchOutput::open(path("out"));
  ASSERT_TRUE(output);
  EXPECT_EQ(output->num_answers(), 3U);
  const auto figures = run(first + rest, &*output);
  ASSERT_TRUE(figures) << figures.error().message;
  EXPECT_EQ(figures->num_succeeded, 2U);
  std::map<std::string, ordered_json> by_id;
  for (const ordered_json& answer : answers()) {
    EXPECT_TRUE(answer["error"].is_null() && answer["id"].is_string()) << answer;
    EXPECT_TRUE(by_id.emplace(answer["custom_id"], answer["response"]).second) << answer;
  }
  ASSERT_EQ(by_id.size(), 5U);
  EXPECT_EQ(by_id["refused"]["status_code"], 404);
  EXPECT_EQ(by_id["chat"]["body"]["choices"][0]["message"]["content"], "Hello, world.");
  EXPECT_EQ(by_id["text"]["body"]["choices"][0]["text"], "Hello, world.");
  EXPECT_EQ(by_id["response"]["body"]["output_text"], "Hello, world.");
  EXPECT_EQ(by_id["message"]["body"]["content"][0]["text"], "Hello, world.");
  EXPECT_TRUE(by_id["chat"]["request_id"].is_string());
}

// A request that finds no room is sent again.
TEST_F(BatchTest, WaitsForAFullServer) {
  engine.max_sessions = 1;
  options.max_queue = 1;
  engine.step_delay_us = 2000;
  start();
  std::string contents;
  for (int i = 0; i < 6; ++i) {
    contents += batch_line(std::to_string(i), "/v1/chat/completions", kMessages);
  }
  auto output = BatchOutput::open(path("out"));
  const auto figures = run(contents, &*output, 6);
  ASSERT_TRUE(figures);
  EXPECT_EQ(figures->num_succeeded, 6U);
}

TEST_F(BatchTest, WhatGotNoAnswerIsAskedAgain) {
  start();
  const std::string contents = batch_line("a", "/v1/chat/completions", kMessages);
  const std::string url = server->url();
  server->stop(0);
  auto output = BatchOutput::open(path("out"));
  const auto figures = run(contents, &*output);
  ASSERT_TRUE(figures);
  EXPECT_EQ(figures->num_lost, 1U);
  EXPECT_NE(figures->loss, "");
  EXPECT_TRUE(answers().empty());
}

// A server that gives one answer to everything.
TEST_F(BatchTest, TemporaryFailuresAreNoAnswers) {
  net::RepeatingHandler handler;
  auto other = net::HttpServer::listen({}, handler);
  ASSERT_TRUE(other) << other.error().message;
  (*other)->start();
  BatchOptions batch;
  batch.url = *net::parse_http_url("http://127.0.0.1:" + std::to_string((*other)->port()));
  const std::string contents = batch_line("a", "/v1/messages", "{}");
  const auto requests = parse_batch(contents, [](size_t, const std::string&) {});
  auto output = BatchOutput::open(path("out"));
  for (const unsigned status : {401U, 403U, 408U, 500U, 502U, 504U}) {
    handler.answer = {status, {}, "{}"};
    const auto figures = run_batch(batch, requests, &*output);
    ASSERT_TRUE(figures);
    EXPECT_EQ(figures->num_lost, 1U) << status;
    EXPECT_EQ(figures->num_refused, 0U) << status;
    EXPECT_EQ(figures->loss, "HTTP " + std::to_string(status));
  }
  EXPECT_TRUE(answers().empty());
  handler.answer = {400, {}, "{}"};
  EXPECT_EQ(run_batch(batch, requests, &*output)->num_refused, 1U);
  handler.answer = {200, {}, "no JSON"};
  EXPECT_EQ(run_batch(batch, requests, &*output)->num_refused, 1U);
  EXPECT_EQ(answers().size(), 2U);
  (*other)->stop(0);
}

// A full disk, as a limit on the size of files makes one: no half of a line stays.
TEST_F(BatchTest, AFullDiskIsAnErrorAndLeavesWholeLines) {
  start();
  std::string contents;
  for (int i = 0; i < 20; ++i) {
    contents += batch_line(std::to_string(i), "/v1/chat/completions", kMessages);
  }
  auto output = std::make_optional(*BatchOutput::open(path("out")));
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{2000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto figures = run(contents, &*output);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(figures);
  EXPECT_EQ(figures.error().code, ErrorCode::kIo);
  const size_t num_written = answers().size();  // each of them whole
  EXPECT_TRUE(num_written > 0 && num_written < 20) << num_written;
  output.reset();  // it has the file locked
  auto again = BatchOutput::open(path("out"));
  ASSERT_TRUE(run(contents, &*again));
  EXPECT_EQ(answers().size(), 20U);
}

}  // namespace
}  // namespace ultraspeed::apps
